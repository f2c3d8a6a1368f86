"""Training the masks that a bank plans and does not have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import Bank, open_bank
from impress_learn.plan.bank import mask_steps
from impress_learn.progress import Progress
from impress_learn.running.processes import TorchSettings, scatter
from impress_learn.streams.reference import parse_reference

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MaskWork:
    """What a worker does: train one of the masks that a bank plans (running/processes.py)."""

    path: Path
    data_dir: Path | None
    settings: TorchSettings

    def begin(self, progress: Progress) -> Callable[[int], None]:
        from impress_learn.bank_files.make import train_missing_masks

        bank, device = open_bank(self.path), self.settings.apply()

        def train(index: int) -> None:
            train_missing_masks(
                bank,
                data_dir=self.data_dir,
                device=device,
                on_mask=lambda _: None,
                on_step=progress.step,
                remark=progress.remark,
                among=[index],
            )

        return train

    def name(self, item: int) -> str:
        return f"mask {item}"


def train_planned(
    bank: Bank, data_dir: Path | None, device: torch.device, progress: Progress, *, workers: int = 1
) -> None:
    """Train the masks that a bank plans and does not have, and say how many there are.

    Raises:
        TrainingDiverged, DataError, StorageError, WorkerLost: masks finished before stay stored.
    """
    from impress_learn.bank_files.make import train_missing_masks

    missing = bank.missing_masks()
    planned = len(bank.manifest.masks)
    if not missing:
        if planned:
            progress.remark(f"{bank.path} is complete: all {planned} masks are there")
        return
    if len(missing) < planned:
        progress.remark(f"{planned - len(missing)} of {planned} masks are there, training the rest")
    plans = [bank.manifest.masks[index] for index in missing]
    known = {task: parse_reference(task) for task in {plan.task for plan in plans} if task is not None}
    progress.begin(sum(mask_steps(plan, known.get(plan.task or "")) for plan in plans))
    if workers > 1 and len(missing) > 1:
        work = MaskWork(bank.path.absolute(), data_dir and data_dir.absolute(), TorchSettings.of(device))
        for _ in scatter(work, missing, workers=workers, progress=progress):
            pass  # each worker stores what it trains
        return
    train_missing_masks(
        bank,
        data_dir=data_dir,
        device=device,
        on_mask=lambda index: progress.describe(f"mask {index + 1} of {planned}: {bank.manifest.masks[index].label}"),
        on_step=progress.step,
        remark=progress.remark,
    )
