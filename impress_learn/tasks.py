"""Learning a task and storing it: reference -> data -> alpha -> one small file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, TrainingDiverged
from impress_format.head import StoredHead, restore_head
from impress_format.numbers import NumbersError, restore, store
from impress_format.own_mask import store_own_mask
from impress_format.records import TaskRecord, supermask_sizes
from impress_format.residual import restore_residual
from impress_format.task_parts import StoredTask, TaskParts, count_columns
from impress_format.weights import permutation, substream_seed
from impress_learn.accuracy import MeasuredOn, accuracy, measured_on
from impress_learn.alpha import Learned, Shape, Start, fit_parts
from impress_learn.basis import Basis, refine
from impress_learn.classes import (
    TaskClasses,
    count_to_store,
    names_to_store,
    renumbered,
    stored_classes,
    uneven_remark,
)
from impress_learn.fits import task_fit
from impress_learn.head.learn import learn_head
from impress_learn.loaded import LoadedBank
from impress_learn.plan.parts import Parts, has_same_residual
from impress_learn.plan.tasks import TaskRequest
from impress_learn.residual import HashedResidual, make_residual
from impress_learn.streams.images import Images
from impress_learn.streams.load import split_order, training_images
from impress_learn.watch import Watch

_HELD_OUT = 0.2
"""Of the images, what a trial of parts is judged on."""


@dataclass(frozen=True, kw_only=True)
class AddedTask:
    """What adding a task gave."""

    task: str
    name: str
    coefficients: int
    residual: int
    """Values of the residual, 0 for none."""
    head: int
    """Dimensions of the head, 0 for none."""
    bytes: int
    accuracy: float
    train_accuracy: float
    seconds: float
    images: MeasuredOn
    """What `accuracy` was measured on."""


def add_task(loaded: LoadedBank, request: TaskRequest, *, data_dir: Path | None, watch: Watch) -> AddedTask:
    """Learn alpha for one task from the data of its reference, and store it.

    Raises:
        As learn_task. DataError.
    """
    fit = request.fit
    data = loaded.stored_data(
        request.reference,
        request.name,
        request.classes,
        data_dir=data_dir,
        holdout=fit.holdout,
        remark=watch.remark,
    )
    train, measured = (
        training_images(data, fit.shots, fit.seed, request.classes.label),
        data.measured(holdout=fit.holdout),
    )
    _remark_uneven(request, train, measured, watch)
    if request.instead is not None:
        request = _better(loaded, request, request.instead, train, watch.step)
    return learn_task(loaded, request, train, measured, on_step=watch.step)


def _remark_uneven(request: TaskRequest, train: Images, measured: Images, watch: Watch) -> None:
    """Say where one class has most of the images, or a class so few that nobody can tell."""
    told = {"training images": train, f"{measured_on(request.fit.holdout)} images": measured}
    for what, images in told.items():
        counts = images.labels.bincount(minlength=request.classes.count).tolist()
        remark = uneven_remark(request.name, request.classes, counts, what, few=images is measured)
        if remark is not None:
            watch.remark(remark)


def learn_task(
    loaded: LoadedBank, request: TaskRequest, train: Images, measured: Images, *, on_step: Callable[[], None]
) -> AddedTask:
    """Learn alpha from these images and store it; accuracy is that of alpha as it is stored, on `measured`.

    Args:
        train, measured: their labels are numbers of `request.classes`.

    Raises:
        TrainingDiverged, StorageError, TaskExists: nothing is stored for this task.
        BankMismatch: the task that this one resumes from was changed meanwhile; it stays.
    """
    started = time.perf_counter()
    fit = request.fit
    signer = loaded.signer if request.parts.signed else None  # now: after training is too late to find it damaged
    parts, basis = request.parts, _weighed(loaded, request)
    if parts.head:
        stored, share, train_share = _learn_head(loaded, request, train, measured, on_step)
    else:
        learned, residual = _fit(loaded, request, train, on_step)
        stored, effective = _as_stored(loaded, request, residual, learned)
        backbone = loaded.backbone.answering(request.classes.count)
        share = accuracy(backbone, effective, measured, loaded.calibration)
        train_share = accuracy(backbone, effective, train, loaded.calibration)
    record = TaskRecord(
        name=request.name,
        task=str(request.reference),
        basis=loaded.bank.basis_digest(len(basis), parts.head > 0),
        accuracy=_to_store(share),
        train_accuracy=_to_store(train_share),
        fit=fit,
        granularity=parts.granularity,
        residual_bits=parts.residual_bits,
        head_bits=parts.head_bits,
        residual_layers=parts.residual_layers,
        classes=count_to_store(loaded.bank, request.classes),
        class_names=names_to_store(loaded.bank, request.reference, request.classes),
    )
    if request.replaces and loaded.bank.read_task_record(request.name).digest != fit.start:
        raise BankMismatch(f"task {request.name} was changed by another process meanwhile: give the command again")
    signature = None
    if signer is not None:
        signature = signer.sign(signer.chosen(train), _restored_head(loaded, stored, request), fit.seed)
    size = loaded.bank.write_task(record, replace(stored, signature=signature), replace=request.replaces)
    return AddedTask(
        task=record.task,
        name=record.name,
        coefficients=0
        if stored.alpha is None
        else len(basis) * count_columns(loaded.bank.manifest, parts.granularity, hybrid=parts.hybrid),
        residual=parts.residual,
        head=parts.head,
        bytes=size,
        accuracy=record.accuracy,
        train_accuracy=record.train_accuracy,
        seconds=time.perf_counter() - started,
        images=measured_on(fit.holdout),
    )


def _restored_head(loaded: LoadedBank, stored: TaskParts, request: TaskRequest) -> StoredHead | None:
    """The head as it will be read."""
    if stored.head is None:
        return None
    return restore_head(stored.head, request.parts.head_bits, request.classes.count, loaded.projection.dimensions)


def _learn_head(
    loaded: LoadedBank,
    request: TaskRequest,
    train: Images,
    measured: Images,
    on_step: Callable[[], None],
) -> tuple[TaskParts, float, float]:
    """As learn_head.

    Raises:
        TrainingDiverged: naming the task.
    """
    fit = replace(task_fit(request.fit), seed=substream_seed(request.fit.seed, f"alpha/{request.reference}"))
    try:
        return learn_head(
            loaded,
            request.parts,
            fit,
            train,
            measured,
            classes=request.classes.count,
            start=None if request.start is None else _in_order(loaded.bank, request.start, request.classes),
            on_step=on_step,
        )
    except TrainingDiverged as error:
        raise TrainingDiverged(f"task {request.name}: {error}") from error


def _in_order(bank: Bank, start: StoredTask, classes: TaskClasses) -> StoredTask:
    """A stored task with a head whose rows stand for these classes, by name; rows of classes that it lacks are 0."""
    there = stored_classes(bank, start.record.task, start.record)
    if start.head is None or there.names is None or classes.names is None or there.names == classes.names:
        return start
    table = np.array(renumbered(classes.names, there.names))
    weight, bias = start.head.weight[table], start.head.bias[table]
    weight[table < 0], bias[table < 0] = 0, bias[table >= 0].mean() if (table >= 0).any() else 0
    return replace(start, head=StoredHead(weight, bias))


def _better(
    loaded: LoadedBank,
    request: TaskRequest,
    other: TaskRequest,
    train: Images,
    on_step: Callable[[], None],
) -> TaskRequest:
    """The other request if it is better on a fifth of the images, held out from both, by more than chance: more than a
    standard error of a share of so many images.

    Raises:
        As learn_task.
    """
    order = torch.from_numpy(permutation(request.fit.seed, f"trial/{len(train)}", len(train))).to(train.device)
    held = max(1, round(_HELD_OUT * len(train)))
    first, others = split_order(order, held, train.sets)
    if len(others) == 0:  # all images belong together
        first, others = split_order(order, held, None)
    apart, rest = train.subset(first.sort().values), train.subset(others.sort().values)

    def share(one: TaskRequest) -> float:
        learned, residual = _fit(loaded, one, rest, on_step)
        backbone = loaded.backbone.answering(request.classes.count)
        return accuracy(backbone, _as_stored(loaded, one, residual, learned)[1], apart, loaded.calibration)

    gain = share(other) - share(request)
    return other if gain > 0.5 / math.sqrt(held) else replace(request, instead=None)


def _weighed(loaded: LoadedBank, request: TaskRequest) -> Basis:
    """The masks that the task weighs."""
    if request.start is not None and request.replaces:
        return loaded.basis.first(len(request.start.alpha))
    return loaded.basis.first(0 if request.parts.alpha_type is None else len(loaded.basis))


def _fit(
    loaded: LoadedBank, request: TaskRequest, train: Images, on_step: Callable[[], None]
) -> tuple[Learned, HashedResidual | None]:
    """Learn the parts that are asked for.

    Raises:
        TrainingDiverged: naming the task.
    """
    parts, start, fit = request.parts, request.start, request.fit
    basis, device = _weighed(loaded, request), loaded.basis.device
    spec = loaded.bank.backbone
    shape = Shape(
        granularity=parts.granularity,
        residual=make_residual(spec, parts.residual, parts.residual_bits, device) if parts.residual else None,
        last_ones=_last_ones(loaded.bank) if parts.hybrid else None,
    )
    try:
        learned = fit_parts(
            loaded.backbone.answering(request.classes.count),
            basis,
            train,
            replace(task_fit(fit), seed=substream_seed(fit.seed, f"alpha/{request.reference}")),
            shape,
            on_step=on_step,
            start=Start() if start is None else _begin(loaded, start, parts, len(basis)),
            calibration=loaded.calibration,
        )
    except TrainingDiverged as error:
        raise TrainingDiverged(f"task {request.name}: {error}") from error
    return learned, shape.residual


def _as_stored(
    loaded: LoadedBank, request: TaskRequest, residual: HashedResidual | None, learned: Learned
) -> tuple[TaskParts, dict[str, Tensor]]:
    """What was learned as it is stored, and effective weights of that as it will be read again.

    Raises:
        TrainingDiverged: a coefficient or a value is too large to be stored.
    """
    parts, name = request.parts, request.name
    alpha = values = restored = None
    coefficients = learned.alpha.numpy()
    if parts.alpha_type is not None:
        try:
            alpha = store(coefficients, parts.alpha_type)
        except OverflowError as error:
            raise TrainingDiverged(f"task {name}: coefficients are {error}: store them as float32") from error
        coefficients = restore(alpha, coefficients.shape[1])
    if residual is not None and learned.values is not None:
        values = residual.store(learned.values)
        try:
            restored = restore_residual(values, parts.residual_bits, loaded.bank.backbone.masked_layers)
        except NumbersError as error:
            raise TrainingDiverged(f"task {name}: the residual {error}: lower the learning rate") from error
    own = None if learned.mask is None else learned.mask.numpy()
    effective = loaded.build(coefficients, parts.granularity, restored, parts.residual_bits, own)
    stored = TaskParts(alpha=alpha, residual=values, mask=None if own is None else store_own_mask(own))
    return stored, effective


def _last_ones(bank: Bank) -> int:
    """Ones of a mask that a task has to itself: of the density of the bank's masks, in the last layer."""
    first = bank.manifest.masks[0]
    return supermask_sizes(bank.backbone.masked_layers, first.density, first.allocation)[-1]


def _begin(loaded: LoadedBank, start: StoredTask, parts: Parts, masks: int) -> Start:
    """What a stored task gives another of these parts to begin from: 0 for masks that it does not weigh."""
    alpha = None
    if parts.alpha_type is not None and start.alpha_type is not None:
        layers = loaded.bank.backbone.masked_layers
        channels = [layer.shape[0] for layer in (layers[:-1] if parts.hybrid else layers)]
        own = refine(torch.from_numpy(start.alpha), channels, start.record.granularity, parts.granularity)
        alpha = torch.zeros(masks, own.shape[1])
        alpha[: len(own)] = own
    values = None
    if start.residual is not None and has_same_residual(start, parts):
        values = torch.from_numpy(start.residual)
    return Start(alpha, values)


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
        residual=outline.residual,
        head=outline.head,
        bytes=outline.bytes,
        accuracy=outline.accuracy,
        train_accuracy=outline.train_accuracy,
        seconds=0.0,
        images=outline.images,
    )


def _to_store(accuracy: float) -> float:
    """To a hundredth of a percent, as a task's file has it."""
    return round(accuracy, 4)
