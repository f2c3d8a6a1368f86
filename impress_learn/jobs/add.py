"""Learn tasks and store them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import Bank, open_bank
from impress_format.errors import listed
from impress_learn.jobs.requests import learn_requests, learn_with
from impress_learn.parts.table import Parts, check_start, in_words, settle
from impress_learn.plan.few import check_voters, or_vote
from impress_learn.plan.tasks import (
    TaskRequest,
    check_fits_bank,
    check_training_is_kept,
    request_tasks,
    settle_training,
    still_to_add,
)
from impress_learn.plan.unlabelled import WITHOUT_LABELS, check_labelled, parts_without_labels
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device, choose_device, count_workers
from impress_learn.running.processes import TorchSettings, scatter
from impress_learn.streams.classes import check_sayable, classes_of_masks
from impress_learn.streams.held_out import check_basis_held_out, check_same_split, check_start_held_out
from impress_learn.streams.reference import Reference, parse_references, without_labels
from impress_learn.training.config import TaskTraining

if TYPE_CHECKING:
    from impress_format.tasks.file import StoredTask
    from impress_learn.tasks.added import AddedTask


def add_tasks(
    path: Path | str,
    references: Sequence[str | Reference],
    *,
    fit: TaskTraining = TaskTraining(),  # noqa: B008  frozen
    name: str | None = None,
    parts: Parts = Parts(),  # noqa: B008  frozen
    warm_start: str | None = None,
    device: Device = None,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> list[AddedTask]:
    """Learn tasks and store them; those that are stored already with these settings are left as they are.

    Args:
        path: the bank's folder.
        references: the tasks: `STREAM/KEY`, slices of keys, `folder:PATH`, or references that were read already.
        fit: how they are learned: epochs, learning rate, few images a class (`shots`), seed and so on.
        name: what the one task is to be called; None for a name that its reference makes.
        parts: that the tasks are to have, or the `bytes` of a file that is to hold the best task (plan/budget.py).
        warm_start: the stored task that they begin from (method.md, drift), by name or reference; with `shots` a ridge
            holds them near it.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU. `Workers` for several processes.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        progress: is told how it goes.

    Returns:
        One for each reference, in order.

    Raises:
        UsageError, DataError, StorageError: nothing was started.
        TrainingDiverged, OutOfMemory: tasks finished before stay stored.

    Example:
        >>> from impress_learn import TaskTraining, add_tasks
        >>> (added,) = add_tasks("build/demo.impress", ["rotated-digits/45"], fit=TaskTraining(epochs=1))
        >>> added.name, added.facts["coefficients"]
        ('rotated-digits-45', 9)
    """
    bank = open_bank(path)
    workers = count_workers(device)
    requests = plan_requests(
        bank, references, fit=fit, name=name, parts=parts, warm_start=warm_start, data_dir=data_dir, progress=progress
    )
    missing = still_to_add(bank, requests)
    if len(missing) < len(requests):
        progress.remark(f"{len(requests) - len(missing)} of {len(requests)} tasks are there already")
    where = choose_device(device) if missing else None

    def scattered(items: Sequence[tuple[str, ...]]) -> Iterator[Mapping[str, AddedTask]]:
        assert where is not None
        work = TaskWork(
            bank.path.absolute(),
            tuple(map(str, references)),
            fit,
            name,
            parts,
            warm_start,
            None if data_dir is None else data_dir.absolute(),
            TorchSettings.of(where),
        )
        return (learned for _, learned in scatter(work, items, workers=workers, progress=progress))

    learned = learn_requests(
        bank, missing, where, data_dir, progress, among=requests, scattered=scattered if workers > 1 else None
    )

    from impress_learn.tasks.added import stored_task

    return [learned.get(request.name) or stored_task(bank, request.name) for request in requests]


@dataclass(frozen=True)
class TaskWork:
    """What a worker does: learn and store some of the tasks that a command asks for (running/processes.py). An item is
    the names of these; all else is as add_tasks has it.
    """

    path: Path
    references: tuple[str, ...]
    fit: TaskTraining
    called: str | None
    parts: Parts
    warm_start: str | None
    data_dir: Path | None
    settings: TorchSettings

    def begin(self, progress: Progress) -> Callable[[tuple[str, ...]], Mapping[str, AddedTask]]:
        from impress_learn.running.loaded import load_running

        bank, device = open_bank(self.path), self.settings.apply()
        requests = plan_requests(
            bank,
            self.references,
            fit=self.fit,
            name=self.called,
            parts=self.parts,
            warm_start=self.warm_start,
            data_dir=self.data_dir,
            progress=SILENT,
        )
        loaded = load_running(bank, device)
        by_name = {request.name: request for request in requests}

        def learn(names: tuple[str, ...]) -> Mapping[str, AddedTask]:
            wanted = [by_name[name] for name in names]
            return learn_with(loaded, wanted, self.data_dir, progress, among=requests)

        return learn

    def name(self, item: tuple[str, ...]) -> str:
        return listed(item, 2)


def plan_requests(
    bank: Bank,
    references: Sequence[str | Reference],
    *,
    fit: TaskTraining,
    name: str | None,
    parts: Parts,
    warm_start: str | None,
    data_dir: Path | None,
    progress: Progress,
) -> list[TaskRequest]:
    """What is asked for, checked against the bank, one request a task: those that are stored already among them.

    Args:
        As add_tasks.

    Raises:
        UsageError, DataError.
    """
    if fit.unlabelled:
        references, parts = without_labels(references), parts_without_labels(bank, parts)
    tasks = parse_references(references)
    check_labelled(tasks, fit)
    asked, parts = parts, settle(bank, parts)
    size = asked.bytes
    if not parts.reads_out:
        check_fits_bank(tasks, bank.backbone)
    start = None if warm_start is None else bank.read_stored(bank.find_task(warm_start))
    requests = request_tasks(tasks, fit, name=name, parts=parts, data_dir=data_dir, start=start)
    if fit.unlabelled:
        requests = [replace(one, classes=classes_of_masks(bank)) for one in requests]
        progress.remark(WITHOUT_LABELS)
    masks = bank.complete_masks()
    for request in requests:
        check_training_is_kept(bank, request.fit)
    for task in tasks:
        check_sayable(bank, task)
        check_same_split(bank, str(task), None if start is None else start.record.task)
        if start is not None:
            check_start_held_out(start.record, str(task), fit.holdout)
        check_basis_held_out(bank, str(task), fit.holdout)
    if size is not None:
        from impress_learn.plan.budget import parts_within

        choices = [parts_within(bank, one, size) for one in requests]
        requests = [_choose(one, fit, parts, start) for one, parts in zip(requests, choices, strict=True)]
        held = ", or ".join(in_words(one, masks) for one in choices[0])
        trial = ": which, the images say" if len(choices[0]) > 1 else ""
        progress.remark(f"{size:,} bytes hold {held}{trial}")
    else:
        requests = [or_vote(bank, one, asked) for one in requests]
    if start is not None:
        for request in requests:
            check_start(start, request.parts, request.classes.count)
    for request in requests:
        check_voters(bank, request)
    return requests


def _choose(request: TaskRequest, fit: TaskTraining, choices: Sequence[Parts], start: StoredTask | None) -> TaskRequest:
    """The request with the first of these parts, and the others, if there are any, to be tried instead, in order."""
    chosen: TaskRequest | None = None
    for parts in reversed(choices):
        settled = settle_training(request.reference, fit, residual=parts.values, start=start)
        chosen = replace(request, parts=parts, fit=settled, instead=chosen)
    assert chosen is not None
    return chosen
