"""Learning the tasks that were requested: many alike together, the others one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import Bank
from impress_format.disk.files import check_writable, make_folder
from impress_format.tasks.store import TASKS
from impress_learn.parts.table import blank_parts
from impress_learn.plan.groups import group_tasks
from impress_learn.plan.tasks import TaskRequest, task_steps
from impress_learn.progress import Progress
from impress_learn.running.device import in_threads
from impress_learn.streams.reference import Reference

if TYPE_CHECKING:
    import torch

    from impress_learn.running.loaded import RunningBank
    from impress_learn.tasks.added import AddedTask

_TASK_HEADER_BYTES = 4096
_AT_ONCE = 4
"""Tasks that a worker is given at a time, at most, where they are not learned together."""

Scattered = Callable[[Sequence[tuple[str, ...]]], Iterable[Mapping[str, "AddedTask"]]]
"""Batches of tasks by name -> what was learned of each, by name."""


def learn_requests(
    bank: Bank,
    requests: Sequence[TaskRequest],
    device: torch.device | None,
    data_dir: Path | None,
    progress: Progress,
    *,
    among: Sequence[TaskRequest] = (),
    scattered: Scattered | None = None,
    workers: int = 1,
) -> dict[str, AddedTask]:
    """Learn and store each of these tasks; what was learned, by name.

    Args:
        device: None where there is nothing to learn.
        among: all that the command asks for, these among them: they say which tasks are learned together
            (plan/groups.py). None where these are all.
        scattered: learns batches of tasks, by name, elsewhere than in this process; None to learn them here.
        workers: that batches are for.

    Raises:
        DataError, StorageError: nothing was started.
        TrainingDiverged, OutOfMemory, WorkerLost: tasks finished before stay stored.
    """
    if not requests or device is None:
        return {}
    from impress_learn.streams.load import check_data

    make_folder(bank.path / TASKS)
    check_writable(bank.path / TASKS, max(_part_bytes(bank, request) for request in requests) + _TASK_HEADER_BYTES)
    references: list[Reference] = [request.reference for request in requests]
    check_data(references, data_dir=data_dir, view=bank.manifest.preprocess, progress=progress)
    progress.begin(sum(map(task_steps, requests)))
    if scattered is not None:
        some = batches(bank, requests, among, workers)
        return {name: one for learned in scattered(some) for name, one in learned.items()}
    from impress_learn.running.loaded import load_running

    with in_threads(requests[0].fit.threads):
        loaded = load_running(bank, device)
        return learn_with(loaded, requests, data_dir, progress, among=among)


def learn_with(
    loaded: RunningBank,
    requests: Sequence[TaskRequest],
    data_dir: Path | None,
    progress: Progress,
    *,
    among: Sequence[TaskRequest] = (),
) -> dict[str, AddedTask]:
    """As learn_requests, with a bank in memory."""
    from impress_learn.features.features import classifiers
    from impress_learn.tasks.learn import add_task
    from impress_learn.tasks.together import add_group

    if len(found := classifiers(loaded.backbone)) > 1 and any(request.parts.hybrid for request in requests):
        spec = loaded.bank.backbone
        last = spec.masked_layers[-1].name
        progress.remark(
            f"{spec.arch} has {len(found)} classifiers ({', '.join(found)}): `hybrid` gives the last of "
            f"its layers a mask, {last}, and coefficients weigh the bank's masks in the others"
        )
    groups, alone = group_tasks(loaded.bank, among or requests)
    missing, device = {request.name for request in requests}, loaded.basis.device
    learned: dict[str, AddedTask] = {}
    for group in groups:
        if not missing.isdisjoint(one.name for one in group.all):
            with _explained("learning tasks together", group.pilots[0].fit.batch_size, device):
                learned |= add_group(loaded, group, missing, data_dir=data_dir, progress=progress)
    for request in (one for one in alone if one.name in missing):
        progress.describe(f"task {len(learned) + 1} of {len(requests)}: {request.reference}")
        with _explained(f"learning {request.name}", request.fit.batch_size, device):
            learned[request.name] = add_task(loaded, request, data_dir=data_dir, progress=progress)
    return learned


def batches(
    bank: Bank, requests: Sequence[TaskRequest], among: Sequence[TaskRequest], workers: int
) -> list[tuple[str, ...]]:
    """Names of tasks that are learned one batch after the other, or beside each other: a group, or a few by themselves.

    Args:
        requests, among: as of learn_requests.
        workers: each of them gets something, where there is enough.
    """
    groups, _ = group_tasks(bank, among)
    grouped = [tuple(request.name for request in group.all) for group in groups]
    missing, together = {request.name for request in requests}, {name for group in grouped for name in group}
    alone = [request.name for request in requests if request.name not in together]
    size = min(_AT_ONCE, -(-len(alone) // workers) or 1)
    some = [tuple(alone[start : start + size]) for start in range(0, len(alone), size)]
    return [tuple(name for name in group if name in missing) for group in grouped if missing.intersection(group)] + some


def _explained(doing: str, batch: int, device: torch.device) -> AbstractContextManager[None]:
    """Within it, OutOfMemory says what was done, and what to do."""
    from impress_learn.running.memory import explain_memory

    return explain_memory(
        f"{doing} with batches of {batch:,} images", device, lambda _: f"try `batch_size` {max(1, batch // 4)}"
    )


def _part_bytes(bank: Bank, request: TaskRequest) -> int:
    return sum(part.nbytes for part in blank_parts(bank, request.parts, request.classes.count).values())
