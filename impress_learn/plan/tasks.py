"""Tasks to be learned: references and a training config -> requests, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from impress_format.bank import Bank
from impress_format.disk.files import remove_abandoned
from impress_format.errors import BankMismatch, TaskExists
from impress_format.parts.alpha import coefficients_of
from impress_format.parts.class_names import differing_names
from impress_format.parts.table import Settings
from impress_format.records.network import BackboneSpec
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.file import StoredTask, check_task_name
from impress_format.tasks.names import task_exists
from impress_format.tasks.record import TaskRecord
from impress_format.tasks.store import TASKS
from impress_format.versions import require_version
from impress_learn.parts import table
from impress_learn.parts.table import Parts, for_classes, parts_of
from impress_learn.streams.classes import TaskClasses, classes_of_data, count_to_store, names_to_store, stored_classes
from impress_learn.streams.held_out import count_training
from impress_learn.streams.reference import Reference
from impress_learn.training.config import TaskTraining, check_training, require, steps_per_epoch


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskRequest:
    """One task to be learned, and how: from 1/K, or from what `start` has, the task that it replaces if `replaces`.

    `classes` are those of its data, or those of the task that it replaces. `instead` is the same task of other parts,
    which it has if a trial on held-out images says so, and so on. `beside` has the names of all that one command asks
    for: none of them depends on which was learned before it.
    """

    name: str
    reference: Reference
    classes: TaskClasses
    fit: TaskTrainingRecord
    parts: Parts
    start: StoredTask | None = None
    replaces: bool = False
    instead: TaskRequest | None = None
    beside: frozenset[str] = frozenset()

    def choices(self) -> list[TaskRequest]:
        """This one, and what it may come to instead, in order."""
        return [self, *(self.instead.choices() if self.instead is not None else ())]


def request_tasks(
    references: Sequence[Reference],
    fit: TaskTraining,
    *,
    name: str | None,
    parts: Parts,
    data_dir: Path | None,
    start: StoredTask | None = None,
) -> list[TaskRequest]:
    """Check settings and fill in what depends on the stream.

    Args:
        start: the stored task that they begin from.

    Raises:
        UsageError: a number out of range, or one name for several tasks.
        DataError: a data set whose classes its folders name is not there.
    """
    if name is not None:
        check_task_name(name)
        require(
            len(references) == 1,
            f"`name` {name} is one name for {len(references)} tasks: leave it out, or add one task",
        )
    names = [name or reference.default_name for reference in references]
    together = frozenset(names)
    return [
        TaskRequest(
            name=own_name,
            reference=reference,
            classes=classes_of_data(reference, data_dir),
            fit=settle_training(reference, fit, residual=parts.values, start=start),
            parts=for_classes(parts, reference.data_set.classes),
            start=start,
            beside=together,
        )
        for own_name, reference in zip(names, references, strict=True)
    ]


def request_update(bank: Bank, name: str, reference: Reference, asked: TaskTrainingRecord) -> TaskRequest | None:
    """The request to resume a stored task on other data; None if the stored one was made by this very request.

    It keeps its name, granularity and type, and the masks that its coefficients weigh, also where the bank was
    extended since.

    Raises:
        TaskNotFound: there is no such task.
    """
    stored = bank.read_stored(name)
    record = stored.record
    # A process killed after the write is given the same command again: without this it would learn once more.
    start = None if record.fit is None else record.fit.start
    done = msgspec.structs.replace(asked, start=start)
    if start is not None and (record.task, record.fit) == (str(reference), done):
        return None
    parts = parts_of(stored)
    require(
        bool(parts.vote) or not asked.unlabelled,
        f"`unlabelled`: {name} was learned from labels; without, only masks can vote: add another task",
    )
    return TaskRequest(
        name=name,
        reference=reference,
        classes=stored_classes(bank, record.task, record),
        fit=msgspec.structs.replace(asked, start=record.digest),
        parts=parts,
        start=stored,
        replaces=True,
    )


def check_fits_bank(references: Sequence[Reference], spec: BackboneSpec) -> None:
    """Refuse references with more classes than the bank's network has outputs.

    Raises:
        BankMismatch: naming the first that does not fit.
    """
    for reference in references:
        classes = reference.data_set.classes
        if classes > spec.classes:
            raise BankMismatch(
                f"{reference} has {classes:,} classes; the bank's network has {spec.classes:,} outputs: use a task "
                "with fewer, or create a bank for this one"
            )


def check_training_is_kept(bank: Bank, fit: TaskTrainingRecord) -> None:
    """Refuse to learn as the tasks of this bank cannot say that they were learned.

    Raises:
        BankMismatch: format version 1 knows plain Adam alone.
    """
    if not fit.is_of_version_1:
        require_version(bank.path, bank.manifest.format_version, "whose tasks are learned by plain Adam")


def check_same_classes(bank: Bank, record: TaskRecord, data: Reference, data_dir: Path | None) -> None:
    """Refuse data of other classes than a stored task tells apart; in which order they are does not matter.

    Raises:
        UsageError: naming those that differ.
        DataError: a data set whose classes its folders name is not there.
    """
    stored, found = stored_classes(bank, record.task, record), classes_of_data(data, data_dir)
    require(
        found.count == stored.count,
        f"{record.name} has {stored.count:,} classes, {data} has {found.count:,}"
        + (f" ({differing_names(stored.names, found.names)})" if stored.names and found.names else "")
        + ": add another task",
    )
    if stored.names is not None and found.names is not None:
        require(
            set(stored.names) == set(found.names),
            f"{data} has other classes than {record.name} ({differing_names(stored.names, found.names)}): add another "
            "task",
        )


def settle_training(
    reference: Reference, fit: TaskTraining, *, residual: int = 0, start: StoredTask | None = None
) -> TaskTrainingRecord:
    """The training config that this task's file will keep: checked, its epochs settled by how many images there are.

    Raises:
        UsageError: a number out of range.
    """
    check_training(fit)
    record = fit.record(count_training(reference.data_set, fit.holdout, fit.shots), residual=residual)
    return record if start is None else msgspec.structs.replace(record, start=start.record.digest)


def task_steps(request: TaskRequest) -> int:
    """Steps that learning this task takes; where a trial comes first, about."""
    if request.parts.vote:
        return 0 if request.instead is None else task_steps(request.instead)
    images = count_training(request.reference.data_set, request.fit.holdout, request.fit.shots)
    steps = request.fit.epochs * steps_per_epoch(images, request.fit.batch_size)
    if request.parts.reads_out and request.parts.changes_features:
        batch_size = request.fit.batch_size
        epochs = residual_epochs(request.fit.epochs, images, batch_size)
        steps += epochs * steps_per_epoch(images, batch_size)
    return steps if request.instead is None else 2 * steps + task_steps(request.instead)


def count_masks(bank: Bank, request: TaskRequest) -> int:
    """How many masks the task weighs: all of a complete bank, but no more coefficients than a task that it replaces."""
    if request.parts.vote:
        return len(bank.manifest.masks)
    if request.start is not None and request.replaces:
        alpha = coefficients_of(request.start)
        return 0 if alpha is None else len(alpha)
    return len(bank.manifest.masks) if request.parts.alpha else 0


def settings_of(bank: Bank, request: TaskRequest) -> Settings:
    """What the record of the task says of its parts."""
    return table.settings_of(request.parts, count_to_store(bank, request.classes))


def task_record(bank: Bank, request: TaskRequest, accuracy: float | None, train_accuracy: float | None) -> TaskRecord:
    """The record of the task; accuracies to a hundredth of a percent, as its file has them.

    Raises:
        FormatError: a mask or the projection that it stands on is missing or damaged.
    """
    return TaskRecord(
        name=request.name,
        task=str(request.reference),
        basis=bank.basis_digest(count_masks(bank, request), request.parts.reads_out),
        accuracy=None if accuracy is None else round(accuracy, 4),
        train_accuracy=None if train_accuracy is None else round(train_accuracy, 4),
        fit=request.fit,
        settings=settings_of(bank, request),
        class_names=names_to_store(bank, request.reference, request.classes),
    )


_MANY, _ENOUGH = 1_000, 100
"""Images from which on a residual beside a head is learned in no more than so many steps."""


def residual_epochs(epochs: int, images: int, batch_size: int) -> int:
    """Epochs that a residual is learned for beside a head, after the head alone.

    Half of them. Where images are many, no more than make _ENOUGH steps: more gained nothing (docs/trials.md).
    """
    half = -(-epochs // 2)
    return half if images < _MANY else min(half, -(-_ENOUGH // steps_per_epoch(images, batch_size)))


def still_to_add(bank: Bank, requests: Sequence[TaskRequest]) -> list[TaskRequest]:
    """The requests not stored yet: an interrupted run resumes, and one that was done has nothing to do.

    Raises:
        TaskExists: one of the names is taken by a task made with other settings.
    """
    remove_abandoned(bank.path / TASKS)
    present = [request for request in requests if bank.tasks.has(request.name)]
    taken = [request.name for request in present if not _is_stored(bank, request)]
    if taken:
        raise task_exists(bank.path, taken)
    stored = {request.name for request in present}
    return [request for request in requests if request.name not in stored]


def _is_stored(bank: Bank, request: TaskRequest) -> bool:
    stored = bank.read_stored(request.name)
    asked = (str(request.reference), request.fit, request.parts)
    fit = stored.record.fit and msgspec.structs.replace(stored.record.fit, steps=0, elsewhere=None)  # how, where
    if (stored.record.task, fit, parts_of(stored)) == asked:
        classes = stored_classes(bank, stored.record.task, stored.record)
        if classes.names is not None and request.classes.names not in (None, classes.names):
            raise TaskExists(
                f"{bank.path} has {request.name}, learned with other classes than {request.reference} has now "
                f"({differing_names(classes.names, request.classes.names or ())}): remove it first (`impress task "
                "remove`), or choose another `name`"
            )
        return True
    return request.instead is not None and _is_stored(bank, request.instead)
