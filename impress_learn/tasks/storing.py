"""A task that was learned -> one small file, and what is told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, FormatError, TrainingDiverged
from impress_format.parts.head import HEAD
from impress_format.parts.signature import SIGNATURE, store_signature
from impress_format.parts.table import facts_of, restore_parts, tensor_of
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.file import StoredTask
from impress_format.weights import substream_seed
from impress_learn.parts.part import Array
from impress_learn.plan.tasks import TaskRequest, settings_of, task_record
from impress_learn.recognition.signature_maker import SignatureMaker
from impress_learn.running.accuracy import measured_on
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.images import Images
from impress_learn.streams.reference import Reference
from impress_learn.tasks.added import AddedTask, or_nan


@dataclass(frozen=True, eq=False)
class Learned:
    """The parts of a task as they are stored, by name, and its accuracy, as stored, when measured and in training."""

    tensors: Mapping[str, Array]
    accuracy: float | None
    train_accuracy: float | None
    begun_from: str | None = None


def store_task(
    loaded: RunningBank,
    request: TaskRequest,
    learned: Learned,
    train: Images,
    signature_maker: SignatureMaker | None,
    *,
    started: float,
) -> AddedTask:
    """Store a task that was learned.

    Args:
        train: images that its signature is made of.
        signature_maker: None for a task without.
        started: when its learning was, by time.perf_counter.

    Raises:
        StorageError, TaskExists: nothing is stored.
        BankMismatch: the task that this one resumes from was changed meanwhile; it stays.
    """
    tensors, fit = learned.tensors, request.fit
    record = task_record(loaded.bank, request, learned.accuracy, learned.train_accuracy)
    if request.replaces and loaded.bank.read_task_record(request.name).digest != fit.start:
        raise BankMismatch(f"task {request.name} was changed by another process meanwhile: give the command again")
    if signature_maker is not None:
        read_out = {name: tensor for name, tensor in tensors.items() if name == HEAD.name}
        head = HEAD.of(StoredTask(record=record, values=restore(loaded.bank, request, read_out)))
        signature = signature_maker.make_signature(signature_maker.chosen(train), head, fit.seed)
        tensors = {**tensors, SIGNATURE.name: store_signature(signature)}
    size = loaded.bank.write_task(record, tensors, replace=request.replaces)
    shapes = {name: tensor_of(tensor) for name, tensor in tensors.items()}
    return AddedTask(
        task=record.task,
        name=record.name,
        facts=facts_of(Path(record.name), shapes, record.settings, loaded.bank.manifest),
        bytes=size,
        accuracy=or_nan(record.accuracy),
        train_accuracy=or_nan(record.train_accuracy),
        seconds=time.perf_counter() - started,
        images=measured_on(fit.holdout),
        begun_from=learned.begun_from,
    )


@contextmanager
def naming(request: TaskRequest) -> Iterator[None]:
    """Within it, TrainingDiverged names the task."""
    try:
        yield
    except TrainingDiverged as error:
        raise TrainingDiverged(f"task {request.name}: {error}") from error


def restore(bank: Bank, request: TaskRequest, tensors: Mapping[str, Array]) -> dict[str, object]:
    """What the parts of a task stand for, as they will be read again.

    Raises:
        TrainingDiverged: a value is too large to be stored.
    """
    path, settings = Path(request.name), settings_of(bank, request)
    try:
        return restore_parts(path, tensors, settings, bank.manifest, bank.identity)
    except FormatError as error:
        raise TrainingDiverged(f"the {error.problem}: lower the learning rate") from error


def task_seed(fit: TaskTrainingRecord, reference: Reference) -> int:
    """What all randomness in learning one task is drawn from."""
    return substream_seed(fit.seed, f"alpha/{reference}")
