"""Training the masks that a bank plans and does not have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import Bank
from impress_learn.engines.scatter import is_scattered, scatter
from impress_learn.engines.work import TorchSettings
from impress_learn.jobs.scattered import MaskWork, receive_mask
from impress_learn.plan.bank import mask_steps
from impress_learn.progress import Progress
from impress_learn.running.device import Workers
from impress_learn.streams.reference import parse_reference

if TYPE_CHECKING:
    import torch


def train_planned(
    bank: Bank, data_dir: Path | None, device: torch.device, progress: Progress, workers: Workers
) -> None:
    """Train the masks that a bank plans and does not have, and say how many there are.

    Raises:
        TrainingDiverged, DataError, StorageError, WorkerLost, ClusterError: masks finished before stay stored.
    """
    from impress_learn.jobs.making import train_missing_masks

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
    if is_scattered(workers, len(missing)):
        threads = max(plan.fit.threads if plan.fit else 1 for plan in plans)
        work = MaskWork(bank.path.absolute(), data_dir and data_dir.absolute(), TorchSettings.of(device, threads))
        for _ in scatter(work, missing, receive=receive_mask(bank), workers=workers, progress=progress):
            pass  # its file is there
        return
    train_missing_masks(bank, data_dir=data_dir, device=device, progress=progress)
