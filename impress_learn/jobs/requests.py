"""Learning the tasks that were requested, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import Bank
from impress_format.disk.files import check_writable, make_folder
from impress_format.tasks.store import TASKS
from impress_learn.parts.table import blank_parts
from impress_learn.plan.tasks import TaskRequest, task_steps
from impress_learn.progress import Progress
from impress_learn.streams.reference import Reference

if TYPE_CHECKING:
    import torch

    from impress_learn.tasks.added import AddedTask

_TASK_HEADER_BYTES = 4096


def learn_requests(
    bank: Bank,
    requests: Sequence[TaskRequest],
    device: torch.device | None,
    data_dir: Path | None,
    progress: Progress,
) -> dict[str, AddedTask]:
    """Learn and store each of these tasks; what was learned, by name.

    Args:
        device: None where there is nothing to learn.

    Raises:
        DataError, StorageError: nothing was started.
        TrainingDiverged, OutOfMemory: tasks finished before stay stored.
    """
    if not requests or device is None:
        return {}
    from impress_learn.features.features import classifiers
    from impress_learn.running.loaded import load_running
    from impress_learn.running.memory import explain_memory
    from impress_learn.streams.load import check_data
    from impress_learn.tasks.learn import add_task

    make_folder(bank.path / TASKS)
    check_writable(bank.path / TASKS, max(_part_bytes(bank, request) for request in requests) + _TASK_HEADER_BYTES)
    references: list[Reference] = [request.reference for request in requests]
    check_data(references, data_dir=data_dir, view=bank.manifest.preprocess, progress=progress)
    loaded = load_running(bank, device)
    if len(found := classifiers(loaded.backbone)) > 1 and any(request.parts.hybrid for request in requests):
        last = bank.backbone.masked_layers[-1].name
        progress.remark(
            f"{bank.backbone.arch} has {len(found)} classifiers ({', '.join(found)}): `hybrid` gives the last of its "
            f"layers a mask, {last}, and coefficients weigh the bank's masks in the others"
        )
    progress.begin(sum(map(task_steps, requests)))
    learned = {}
    for number, request in enumerate(requests, start=1):
        progress.describe(f"task {number} of {len(requests)}: {request.reference}")
        batch = request.fit.batch_size
        with explain_memory(
            f"learning {request.name} with batches of {batch:,} images",
            device,
            lambda _, batch=batch: f"try `batch_size` {max(1, batch // 4)}",  # type: ignore[misc]
        ):
            learned[request.name] = add_task(loaded, request, data_dir=data_dir, progress=progress)
    return learned


def _part_bytes(bank: Bank, request: TaskRequest) -> int:
    return sum(part.nbytes for part in blank_parts(bank, request.parts, request.classes.count).values())
