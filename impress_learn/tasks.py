"""Learning a task and storing it: reference -> data -> alpha -> one small file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, TrainingDiverged
from impress_format.numbers import restore, store
from impress_format.records import TaskRecord
from impress_format.weights import substream_seed
from impress_learn.alpha import fit_alpha
from impress_learn.basis import effective_weights
from impress_learn.evaluate import MeasuredOn, accuracy, measured_on
from impress_learn.fits import task_fit
from impress_learn.identify.recogniser import signing_images
from impress_learn.identify.signature import sign_task
from impress_learn.loaded import LoadedBank
from impress_learn.plan import TaskRequest
from impress_learn.streams.images import Images
from impress_learn.streams.load import load_task, take_shots


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
    images: MeasuredOn
    """What `accuracy` was measured on."""


def add_task(
    loaded: LoadedBank, request: TaskRequest, *, data_dir: Path | None, on_step: Callable[[], None]
) -> AddedTask:
    """Learn alpha for one task from the data of its reference, and store it.

    Raises:
        As learn_task. DataError.
    """
    fit = request.fit
    data = load_task(request.reference, data_dir=data_dir, holdout=fit.holdout, device=loaded.basis.device)
    train = data.train if fit.shots is None else take_shots(data.train, fit.shots, fit.seed)
    return learn_task(loaded, request, train, data.measured(holdout=fit.holdout), on_step=on_step)


def learn_task(
    loaded: LoadedBank, request: TaskRequest, train: Images, measured: Images, *, on_step: Callable[[], None]
) -> AddedTask:
    """Learn alpha from these images and store it; accuracy is that of alpha as it is stored, on `measured`.

    Raises:
        TrainingDiverged, StorageError, TaskExists: nothing is stored for this task.
        BankMismatch: the task that this one resumes from was changed meanwhile; it stays.
    """
    started = time.perf_counter()
    fit = request.fit
    recogniser = loaded.recogniser if request.signed else None  # now: after training is too late to find it damaged
    basis = loaded.basis if request.start is None else loaded.basis.first(len(request.start))
    try:
        learned = fit_alpha(
            loaded.backbone,
            basis,
            train,
            replace(task_fit(fit), seed=substream_seed(fit.seed, f"alpha/{request.reference}")),
            granularity=request.granularity,
            on_step=on_step,
            start=None if request.start is None else torch.from_numpy(request.start),
        )
    except TrainingDiverged as error:
        raise TrainingDiverged(f"task {request.name}: {error}") from error
    try:
        stored = store(learned.numpy(), request.alpha_type)
    except OverflowError as error:
        raise TrainingDiverged(f"task {request.name}: coefficients are {error}: store them as float32") from error
    alpha = torch.from_numpy(restore(stored, learned.shape[1]))
    effective = effective_weights(basis, alpha.to(basis.device), request.granularity)
    record = TaskRecord(
        name=request.name,
        task=str(request.reference),
        basis=loaded.bank.basis_digest(len(basis)),
        accuracy=_to_store(accuracy(loaded.backbone, effective, measured, loaded.calibration)),
        train_accuracy=_to_store(accuracy(loaded.backbone, effective, train, loaded.calibration)),
        fit=fit,
        granularity=request.granularity,
    )
    if fit.start is not None and loaded.bank.read_task_record(request.name).digest != fit.start:
        raise BankMismatch(f"task {request.name} was changed by another process meanwhile: give the command again")
    signature = None if recogniser is None else sign_task(recogniser, train.subset(signing_images(len(train))))
    size = loaded.bank.write_task(record, stored, signature, replace=fit.start is not None)
    return AddedTask(
        task=record.task,
        name=record.name,
        coefficients=alpha.numel(),
        bytes=size,
        accuracy=record.accuracy,
        train_accuracy=record.train_accuracy,
        seconds=time.perf_counter() - started,
        images=measured_on(fit.holdout),
    )


def stored_task(bank: Bank, name: str) -> AddedTask:
    """What adding a task that is stored gave, as its file has it; 0 seconds.

    Raises:
        TaskNotFound, FormatError: as Bank.read_task.
    """
    bank.read_task(name)  # checks all of it
    outline = bank.outline_task(name)
    return AddedTask(
        task=outline.task,
        name=name,
        coefficients=outline.coefficients,
        bytes=outline.bytes,
        accuracy=outline.accuracy,
        train_accuracy=outline.train_accuracy,
        seconds=0.0,
        images=outline.images,
    )


def _to_store(accuracy: float) -> float:
    """To a hundredth of a percent, as a task's file has it."""
    return round(accuracy, 4)
