"""What is asked for when a task is added or updated, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from impress_format.bank import TASKS, AlphaType, Bank, FloatArray, check_task_name, task_exists
from impress_format.errors import UsageError
from impress_format.files import remove_abandoned
from impress_format.records import TaskFit
from impress_learn.plan import check_training
from impress_learn.schedule import steps_per_epoch, task_epochs, train_images
from impress_learn.streams.reference import Reference


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskRequest:
    """One task to be learned, and how: from 1/K, or from `start`, the alpha that it replaces."""

    name: str
    reference: Reference
    fit: TaskFit
    granularity: int
    alpha_type: AlphaType = "float32"
    start: FloatArray | None = None


def request_tasks(
    references: Sequence[Reference],
    *,
    name: str | None,
    epochs: int | None,
    batch_size: int,
    lr: float,
    l1: float,
    granularity: int,
    alpha_type: AlphaType,
    shots: int | None,
    holdout: float,
    seed: int,
) -> list[TaskRequest]:
    """Check settings and fill in what depends on the stream.

    Raises:
        UsageError: a number out of range, or one name for several tasks.
    """
    if name is not None:
        check_task_name(name)
    if name is not None and len(references) != 1:
        raise UsageError(f"`name` {name} is one name for {len(references)} tasks: leave it out, or add one task")
    if granularity < 1:
        raise UsageError(f"`granularity` {granularity}: expected at least 1")
    return [
        TaskRequest(
            name=name or reference.default_name,
            reference=reference,
            fit=plan_fit(
                reference, epochs=epochs, batch_size=batch_size, lr=lr, l1=l1, shots=shots, holdout=holdout, seed=seed
            ),
            granularity=granularity,
            alpha_type=alpha_type,
        )
        for reference in references
    ]


def request_update(bank: Bank, task: str, reference: Reference, fit: TaskFit) -> TaskRequest | None:
    """The request to resume a stored task on other data; None if the stored one was made by this very request.

    It keeps its name, granularity and type, and the masks it weighs, also where the bank was extended since.

    Raises:
        TaskNotFound: there is no such task.
    """
    name = bank.find_task(task)
    record, alpha = bank.read_task(name)
    asked = msgspec.structs.replace(fit, start=record.digest)
    # A process killed after the write is given the same command again: without this it would learn once more.
    done = msgspec.structs.replace(fit, start=record.fit.start)
    if record.fit.start is not None and (record.task, record.fit) == (str(reference), done):
        return None
    return TaskRequest(
        name=name,
        reference=reference,
        fit=asked,
        granularity=record.granularity,
        alpha_type=bank.read_alpha_type(name),
        start=alpha,
    )


def plan_fit(
    reference: Reference,
    *,
    epochs: int | None,
    batch_size: int,
    lr: float,
    l1: float,
    shots: int | None,
    holdout: float,
    seed: int,
) -> TaskFit:
    """How an alpha will be learned; the passes over the data depend on how many images there are.

    Raises:
        UsageError: a number out of range.
    """
    check_training(epochs=epochs, batch_size=batch_size, lr=lr, holdout=holdout, seed=seed)
    if not 0.0 <= l1 < float("inf"):
        raise UsageError(f"`l1` {l1}: expected 0 or more")
    if shots is not None and shots < 1:
        raise UsageError(f"`shots` {shots}: expected at least 1")
    images = train_images(reference.stream, holdout, shots)
    return TaskFit(
        epochs=epochs or task_epochs(images, batch_size),
        lr=lr,
        seed=seed,
        batch_size=batch_size,
        l1=l1,
        holdout=holdout,
        shots=shots,
    )


def training_steps(request: TaskRequest) -> int:
    """Steps that learning this task takes."""
    images = train_images(request.reference.stream, request.fit.holdout, request.fit.shots)
    return request.fit.epochs * steps_per_epoch(images, request.fit.batch_size)


def still_to_add(bank: Bank, requests: Sequence[TaskRequest]) -> list[TaskRequest]:
    """The requests not stored yet: an interrupted run resumes, and one that was done has nothing to do.

    Raises:
        TaskExists: one of the names is taken by a task made with other settings.
    """
    remove_abandoned(bank.path / TASKS)
    stored = set(bank.task_names())
    there = [request for request in requests if request.name in stored]
    taken = [request.name for request in there if not _is_stored(bank, request)]
    if taken:
        raise task_exists(bank.path, taken)
    return [request for request in requests if request.name not in stored]


def _is_stored(bank: Bank, request: TaskRequest) -> bool:
    record = bank.read_task_record(request.name)
    asked = (str(request.reference), request.fit, request.granularity, request.alpha_type)
    return (record.task, record.fit, record.granularity, bank.read_alpha_type(request.name)) == asked
