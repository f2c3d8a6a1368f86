"""Tasks that a command asks for -> one request each, checked against the bank before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from impress_format.bank import Bank
from impress_format.tasks.file import StoredTask
from impress_learn.parts.table import Parts, check_start, in_words, settle
from impress_learn.plan.budget import Room, parts_within
from impress_learn.plan.few import check_voters, or_vote
from impress_learn.plan.tasks import (
    TaskRequest,
    check_fits_bank,
    check_training_is_kept,
    request_tasks,
    settle_training,
)
from impress_learn.plan.unlabelled import WITHOUT_LABELS, check_labelled, parts_without_labels
from impress_learn.progress import Progress
from impress_learn.streams.classes import check_sayable, classes_of_masks
from impress_learn.streams.held_out import check_basis_held_out, check_same_split, check_start_held_out
from impress_learn.streams.reference import Reference, parse_references, without_labels
from impress_learn.training.config import TaskTraining


@dataclass(frozen=True)
class AskedTasks:
    """What one command asks for; its fields are the arguments of jobs.add_tasks."""

    references: tuple[str | Reference, ...]
    fit: TaskTraining
    name: str | None
    parts: Parts
    warm_start: str | None
    data_dir: Path | None

    def expanded(self, requests: Sequence[TaskRequest]) -> AskedTasks:
        """The same with a text for each task, as workers are sent it: what a slice or a folder holds is settled here.

        Args:
            requests: that plan_requests made of it.
        """
        if self.fit.unlabelled:  # what is said of images without labels is no text of a reference
            return replace(self, references=tuple(map(str, self.references)))
        return replace(self, references=tuple(str(one.reference) for one in requests))


def plan_requests(bank: Bank, asked: AskedTasks, progress: Progress) -> list[TaskRequest]:
    """One request a task: those that are stored already among them.

    Args:
        progress: is told what to know of them.

    Raises:
        UsageError, DataError.
    """
    fit, data_dir = asked.fit, asked.data_dir
    given = parts_without_labels(bank, asked.parts) if fit.unlabelled else asked.parts
    tasks = parse_references(without_labels(asked.references) if fit.unlabelled else asked.references)
    check_labelled(tasks, fit)
    parts = settle(bank, given)
    room = Room.of(given)
    if not parts.reads_out:
        check_fits_bank(tasks, bank.backbone)
    start = None if asked.warm_start is None else bank.read_stored(bank.find_task(asked.warm_start))
    requests = request_tasks(tasks, fit, name=asked.name, parts=parts, data_dir=data_dir, start=start)
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
    if room is not None:
        choices = [parts_within(bank, one, room) for one in requests]
        requests = [_choose(one, fit, parts, start) for one, parts in zip(requests, choices, strict=True)]
        held = ", or ".join(in_words(one, masks) for one in choices[0])
        trial = ": which, the images say" if len(choices[0]) > 1 else ""
        progress.remark(f"{room} {held}{trial}")
    else:
        requests = [or_vote(bank, one, given) for one in requests]
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
