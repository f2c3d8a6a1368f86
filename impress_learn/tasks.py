"""Adding tasks to a bank: reference -> data -> alpha -> one small file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from impress_format.bank import Bank, task_exists
from impress_format.errors import TrainingDiverged, UsageError
from impress_format.records import TaskFit, TaskRecord
from impress_format.weights import substream_seed
from impress_learn.alpha import fit_alpha
from impress_learn.combine import effective_weights
from impress_learn.evaluate import LoadedBank, accuracy
from impress_learn.plan import check_training
from impress_learn.schedule import steps_per_epoch, task_epochs, train_images
from impress_learn.streams.data import take_shots
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import Reference


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """One task to be added, and how its alpha is to be learned."""

    name: str
    reference: Reference
    fit: TaskFit
    granularity: int


@dataclass(frozen=True, kw_only=True)
class AddedTask:
    """What adding a task gave."""

    task: str
    name: str
    coefficients: int
    bytes: int
    accuracy: float
    train_accuracy: float
    seconds: float


def request_tasks(
    references: Sequence[Reference],
    *,
    name: str | None,
    epochs: int | None,
    batch_size: int,
    lr: float,
    l1: float,
    granularity: int,
    shots: int | None,
    holdout: float,
    seed: int,
) -> list[TaskRequest]:
    """Check settings and fill in what depends on the stream.

    Raises:
        UsageError: a number out of range, or one name for several tasks.
    """
    check_training(epochs=epochs, batch_size=batch_size, lr=lr, holdout=holdout, seed=seed)
    if name is not None and len(references) != 1:
        raise UsageError(f"--name {name} is one name for {len(references)} tasks: leave it out, or add one task")
    if granularity < 1:
        raise UsageError(f"--granularity {granularity}: expected at least 1")
    if not 0.0 <= l1 < float("inf"):
        raise UsageError(f"--l1 {l1}: expected 0 or more")
    if shots is not None and shots < 1:
        raise UsageError(f"--shots {shots}: expected at least 1")
    requests = []
    for reference in references:
        images = train_images(reference.stream, holdout, shots)
        fit = TaskFit(
            epochs=epochs or task_epochs(images, batch_size),
            lr=lr,
            seed=seed,
            batch_size=batch_size,
            l1=l1,
            holdout=holdout,
            shots=shots,
        )
        requests.append(
            TaskRequest(name=name or reference.default_name, reference=reference, fit=fit, granularity=granularity)
        )
    return requests


def training_steps(request: TaskRequest) -> int:
    """Steps that learning this task takes."""
    images = train_images(request.reference.stream, request.fit.holdout, request.fit.shots)
    return request.fit.epochs * steps_per_epoch(images, request.fit.batch_size)


def still_to_add(bank: Bank, requests: Sequence[TaskRequest]) -> list[TaskRequest]:
    """The requests not stored yet: an interrupted run is taken up where it stopped.

    Raises:
        TaskExists: all are stored, or one of the names is taken by a task made with other settings.
    """
    stored = set(bank.task_names())
    there = [request for request in requests if request.name in stored]
    taken = [request.name for request in there if not _is_stored(bank, request)]
    if taken or len(there) == len(requests):
        raise task_exists(bank.path, taken or [request.name for request in there])
    return [request for request in requests if request.name not in stored]


def add_task(loaded: LoadedBank, request: TaskRequest, *, data_dir: Path, on_step: Callable[[], None]) -> AddedTask:
    """Learn alpha for one task and store it.

    Raises:
        TrainingDiverged, DataError, StorageError, TaskExists: nothing is stored for this task.
    """
    started = time.perf_counter()
    fit = request.fit
    data = load_task(request.reference, data_dir=data_dir, holdout=fit.holdout).to(loaded.basis.device)
    train = data.train if fit.shots is None else take_shots(data.train, fit.shots, fit.seed)
    try:
        alpha = fit_alpha(
            loaded.backbone,
            loaded.basis,
            train,
            epochs=fit.epochs,
            batch_size=fit.batch_size,
            lr=fit.lr,
            l1=fit.l1,
            granularity=request.granularity,
            seed=substream_seed(fit.seed, f"alpha/{request.reference}"),
            on_step=on_step,
        )
    except TrainingDiverged as error:
        raise TrainingDiverged(f"task {request.name}: {error}") from error
    effective = effective_weights(loaded.basis, alpha.to(loaded.basis.device), request.granularity)
    record = TaskRecord(
        name=request.name,
        task=str(request.reference),
        basis=loaded.bank.basis_digest(len(loaded.basis)),
        accuracy=accuracy(loaded.backbone, effective, data.measured(holdout=fit.holdout), loaded.calibration),
        train_accuracy=accuracy(loaded.backbone, effective, train, loaded.calibration),
        fit=fit,
        granularity=request.granularity,
    )
    size = loaded.bank.write_task(record, alpha.numpy())
    return AddedTask(
        task=record.task,
        name=record.name,
        coefficients=alpha.numel(),
        bytes=size,
        accuracy=record.accuracy,
        train_accuracy=record.train_accuracy,
        seconds=time.perf_counter() - started,
    )


def _is_stored(bank: Bank, request: TaskRequest) -> bool:
    record = bank.read_task_record(request.name)
    asked = (str(request.reference), request.fit, request.granularity)
    return (record.task, record.fit, record.granularity) == asked
