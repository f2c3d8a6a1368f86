"""What is to be trained: references and fits -> mask plans and task requests, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from impress_format import __version__
from impress_format.bank import Bank, task_exists
from impress_format.class_names import differing_names
from impress_format.errors import BankMismatch, TaskExists
from impress_format.files import remove_abandoned
from impress_format.head import whole_dimensions
from impress_format.limits import MAX_MASKS, MAX_PIXELS, MAX_SIDE
from impress_format.numbers import NumberType
from impress_format.records import (
    Allocation,
    BackboneSpec,
    BankManifest,
    MadeWith,
    MaskPlan,
    MaskType,
    Preprocess,
    ResidualBits,
    TaskFitRecord,
    TaskRecord,
)
from impress_format.task_file import check_task_name
from impress_format.task_parts import StoredTask
from impress_format.task_store import TASKS
from impress_format.versions import FORMAT_VERSION
from impress_format.weights import substream_seed
from impress_learn.classes import TaskClasses, classes_of_data, stored_classes
from impress_learn.fits import MaskFit, TaskFit, check_fit, check_number, require, steps_per_epoch
from impress_learn.held_out import count_training
from impress_learn.streams.reference import Reference, parse_reference
from impress_learn.streams.view import PHOTO_MEAN, PHOTO_STD, changed_view, default_view, photo_view

HEAD_DIMENSIONS = 128
"""Of a head, where nobody asks for a number: of two bits each, five classes take 180 bytes."""
_TAIL = 0.25
"""Of the weights before the classifier, what the layers hold that a residual beside a head is of, where nobody asks. In
more layers it gains more (docs/results.md, Heads), and takes minutes where these take less than one."""


def plan_masks(
    references: Sequence[Reference],
    fit: MaskFit,
    *,
    masks_per_task: int,
    random_masks: int,
    density: float,
    mask_type: MaskType = "binary",
    allocation: Allocation = "uniform",
) -> tuple[MaskPlan, ...]:
    """One mask a reference (heterogeneous), several (homogeneous), and random ones after them.

    Every seed is drawn from that of `fit`.

    Raises:
        UsageError: a number out of range.
    """
    require(0.0 < density <= 1.0, f"`density` {density}: expected a number above 0 and at most 1")
    check_number("masks_per_task", masks_per_task, least=0, most=MAX_MASKS)
    check_number("random_masks", random_masks, least=0, most=MAX_MASKS)
    require_room(len(references) * masks_per_task + random_masks, len(references), masks_per_task, random_masks)
    require(
        not (random_masks and mask_type == "real"), "`random_masks` are binary or signed: leave out `mask_type` real"
    )
    check_fit(fit)
    trained = [
        MaskPlan(
            kind="heterogeneous" if masks_per_task == 1 else "homogeneous",
            task=str(reference),
            density=density,
            seed=substream_seed(fit.seed, f"mask/{reference}/{repeat}"),
            fit=replace(fit, seed=substream_seed(fit.seed, f"order/{reference}/{repeat}")).record(
                count_training(reference.data_set, fit.holdout)
            ),
            type=mask_type,
            allocation=allocation,
        )
        for reference in references
        for repeat in range(masks_per_task)
    ]
    random = [
        MaskPlan(
            kind="random",
            task=None,
            density=density,
            seed=substream_seed(fit.seed, f"random/{number}"),
            fit=None,
            type=mask_type,
            allocation=allocation,
        )
        for number in range(random_masks)
    ]
    return (*trained, *random)


def require_room(masks: int, references: int, masks_per_task: int, random_masks: int) -> None:
    """Refuse more masks than a bank holds.

    Args:
        masks: how many it would have.

    Raises:
        UsageError: with what they come from.
    """
    require(
        masks <= MAX_MASKS,
        f"`masks_per_task` {masks_per_task:,} for {references:,} tasks and `random_masks` {random_masks:,} make a bank "
        f"of {masks:,} masks, expected at most {MAX_MASKS:,}: name fewer tasks, or ask for fewer masks",
    )


def plan_bank(
    backbone: BackboneSpec,
    masks: tuple[MaskPlan, ...],
    view: Preprocess,
    class_names: tuple[str, ...] | None,
    mask_classes: Mapping[str, tuple[str, ...]],
    *,
    seed: int,
    calibration: bool,
    recogniser: bool,
) -> BankManifest:
    """The manifest of a new bank.

    Args:
        view: how its images are made.
        class_names: of all its tasks, or None where they differ.
        mask_classes: of its tasks by reference, where the reference does not tell.
    """
    learned = {mask.task for mask in masks}
    own = {task: names for task, names in mask_classes.items() if task in learned and names != class_names}
    return BankManifest(
        format_version=FORMAT_VERSION,
        made_with=MadeWith(
            impress=__version__, **{name: metadata.version(name) for name in ("torch", "timm", "numpy")}
        ),
        seed=seed,
        preprocess=view,
        class_names=class_names,
        backbone=backbone,
        masks=masks,
        calibration=calibration,
        recogniser=recogniser,
        mask_classes=own or msgspec.UNSET,
    )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts that a task is to have.

    Attributes:
        granularity: of alpha.
        alpha_type: what alpha is stored in; None for a task without alpha.
        residual: number of its values, 0 for none.
        residual_bits: that each of these takes.
        hybrid: whether it has a mask of its own in the last layer, in place of alpha there (ImpressLearn, Sec. 3).
        head: dimensions of a head over pretrained weights, 0 for none.
        head_bits: that each value of the head takes.
        residual_layers: beside a head, the last layers before the classifier that the residual is of.
        signed: whether it has a signature.
    """

    granularity: int = 1
    alpha_type: NumberType | None = "int8"
    residual: int = 0
    residual_bits: ResidualBits = 0
    hybrid: bool = False
    head: int = 0
    head_bits: ResidualBits = 0
    residual_layers: int = 0
    signed: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskRequest:
    """One task to be learned, and how: from 1/K, or from what `start` has, the task that it replaces if `replaces`.

    `classes` are those of its data, or those of the task that it replaces. `instead` is the same task of other parts,
    which it has if a trial on held-out images says so.
    """

    name: str
    reference: Reference
    classes: TaskClasses
    fit: TaskFitRecord
    parts: Parts
    start: StoredTask | None = None
    replaces: bool = False
    instead: TaskRequest | None = None


def request_tasks(
    references: Sequence[Reference],
    fit: TaskFit,
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
    return [
        TaskRequest(
            name=name or reference.default_name,
            reference=reference,
            classes=classes_of_data(reference, data_dir),
            fit=settle_fit(reference, fit, residual=parts.residual, start=start),
            parts=whole_head(parts, reference.data_set.classes),
            start=start,
        )
        for reference in references
    ]


def whole_head(parts: Parts, classes: int) -> Parts:
    """The same with a head whose dimensions can be told from its bytes: at most a few fewer."""
    return replace(parts, head=whole_dimensions(classes, parts.head, parts.head_bits)) if parts.head else parts


def usual_head(bank: Bank) -> int:
    """Dimensions of a head where nobody asks for a number; 0 where the bank has no projection.

    Raises:
        FormatError: the projection is damaged.
    """
    return min(HEAD_DIMENSIONS, bank.directions) if bank.has_projection else 0


def check_parts(bank: Bank, parts: Parts) -> Parts:
    """The parts, if a task of this bank may have them.

    Raises:
        UsageError: a number out of range, or no part that makes a task.
        BankMismatch: format version 1 has no residual; there is no mask to weigh.
    """
    layers = bank.backbone.masked_layers
    check_number("granularity", parts.granularity, least=1, most=MAX_SIDE)
    require(parts.head >= 0, f"`head` {parts.head}: expected 0 or more dimensions")
    require(
        parts.alpha_type is not None or parts.residual > 0 or parts.head > 0,
        "a task without coefficients is a residual: give `residual`, its bits in all",
    )
    if parts.head:
        _check_head(bank, parts)
    if parts.alpha_type is not None and not bank.manifest.masks:
        raise BankMismatch(f"{bank.path} has no mask: a task over it is a residual alone (`residual`, --no-alpha)")
    if parts.hybrid:
        require(parts.alpha_type is not None, "`hybrid` is alpha in all layers but the last: give it with `alpha`")
        require(len(layers) > 1, f"`hybrid`: the network has {len(layers)} layer, expected two or more")
        if bank.manifest.format_version == 1:
            raise BankMismatch(
                f"{bank.path} has format version 1, which has no hybrid: run `impress bank upgrade` first"
            )
    if parts.residual:
        if bank.manifest.format_version == 1:
            raise BankMismatch(f"{bank.path} has format version 1, which has no residual: run `impress bank upgrade`")
        bits = parts.residual * parts.residual_bits
        require(bits % 8 == 0, f"`residual` {bits}: expected whole bytes, a multiple of 8")
        covered = bank.backbone.residual_layers(parts.residual_layers)
        most = sum(layer.size for layer in covered)
        require(
            len(covered) <= parts.residual <= most,
            f"`residual` {bits}: {parts.residual:,} values of {parts.residual_bits} bits, expected {len(covered):,} "
            f"(one a layer) to {most:,} (one a weight)",
        )
    return parts


def choose_layers(spec: BackboneSpec, asked: int | None) -> int:
    """The last layers before the classifier that a residual is of: as asked, or the fewest that hold a quarter of the
    weights.

    Raises:
        UsageError: there are not so many.
    """
    layers = spec.masked_layers[:-1]
    require(
        asked is None or 1 <= asked <= len(layers),
        f"`residual_layers` {asked}: expected 1 to {len(layers):,}, the layers before the classifier",
    )
    return layers_holding(spec, _TAIL) if asked is None else asked


def layers_holding(spec: BackboneSpec, share: float) -> int:
    """The fewest last layers before the classifier that hold this share of the weights before it."""
    layers = spec.masked_layers[:-1]
    enough, held = share * sum(layer.size for layer in layers), 0
    for count, layer in enumerate(reversed(layers), start=1):
        held += layer.size
        if held >= enough:
            return count
    return len(layers)


def _check_head(bank: Bank, parts: Parts) -> None:
    """Refuse a head that this bank has no projection for, or beside parts that it stands in place of.

    Raises:
        UsageError, BankMismatch, FormatError: it is so.
    """
    if not bank.has_projection:
        raise BankMismatch(
            f"{bank.path} has no projection that a head could stand on: create a bank with `weights` that others "
            "trained, of a network whose classifier is linear"
        )
    most = bank.directions
    require(parts.head <= most, f"`head` {parts.head:,}: expected at most {most:,} dimensions, the bank's projection")
    require(
        parts.alpha_type is None and not parts.hybrid,
        "`head` stands beside neither `alpha` nor `hybrid`: it reads features of the network as it is",
    )


def choose_type(bank: Bank, asked: NumberType | None) -> NumberType:
    """The type alpha is stored in. int8 by default: it moves no accuracy (docs/results.md, Types of alpha).

    Raises:
        BankMismatch: a bank of format version 1 has no int8.
    """
    if bank.manifest.format_version == 1:
        if asked == "int8":
            raise BankMismatch(
                f"{bank.path} has format version 1, which stores no int8: run `impress bank upgrade`, or use "
                "`alpha_dtype` float16"
            )
        return asked or "float32"
    return asked or "int8"


def check_fit_is_kept(bank: Bank, fit: TaskFitRecord) -> None:
    """Refuse to learn as the tasks of this bank cannot say that they were learned.

    Raises:
        BankMismatch: format version 1 knows plain Adam alone.
    """
    if bank.manifest.format_version == 1 and not fit.is_of_version_1:
        raise BankMismatch(
            f"{bank.path} has format version 1, whose tasks are learned by plain Adam: run `impress bank upgrade` first"
        )


def request_update(bank: Bank, name: str, reference: Reference, asked: TaskFitRecord) -> TaskRequest | None:
    """The request to resume a stored task on other data; None if the stored one was made by this very request.

    It keeps its name, granularity and type, and the masks it weighs, also where the bank was extended since.

    Raises:
        TaskNotFound: there is no such task.
    """
    stored = bank.read_stored(name)
    record = stored.record
    # A process killed after the write is given the same command again: without this it would learn once more.
    done = msgspec.structs.replace(asked, start=record.fit.start)
    if record.fit.start is not None and (record.task, record.fit) == (str(reference), done):
        return None
    return TaskRequest(
        name=name,
        reference=reference,
        classes=stored_classes(bank, record.task, record),
        fit=msgspec.structs.replace(asked, start=record.digest),
        parts=_parts_of(stored),
        start=stored,
        replaces=True,
    )


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


def check_start(start: StoredTask, request: TaskRequest) -> None:
    """Refuse to begin a task from a stored one that has none of its parts, or cannot be written as they are.

    Raises:
        UsageError: it is so.
    """
    name, own, parts = start.record.name, _parts_of(start), request.parts
    classes = request.classes.count
    same_head = start.head is not None and start.head.weight.shape == (classes, parts.head)
    require(
        parts.head == 0 or same_head,
        f"`warm_start` {name} has no head of {parts.head:,} dimensions for {classes:,} classes, as this task has",
    )
    require(
        same_head or has_same_residual(start, parts) or (own.alpha_type is not None and parts.alpha_type is not None),
        f"`warm_start` {name}: it has no part that this task could begin from",
    )
    require(
        parts.hybrid == own.hybrid,
        f"`warm_start` {name} is {'' if own.hybrid else 'not '}`hybrid`: the new task must be alike",
    )
    require(
        parts.alpha_type is None or own.alpha_type is None or parts.granularity % own.granularity == 0,
        f"`warm_start` {name} has `granularity` {own.granularity}: expected a multiple of it, got {parts.granularity}",
    )


def has_same_residual(stored: StoredTask, parts: Parts) -> bool:
    """Whether a stored task has a residual whose values lie as those of these parts do."""
    own = _parts_of(stored)
    return own.residual > 0 and (own.residual, own.residual_bits) == (parts.residual, parts.residual_bits)


def settle_fit(
    reference: Reference, fit: TaskFit, *, residual: int = 0, start: StoredTask | None = None
) -> TaskFitRecord:
    """The fit that this task's file will keep: checked, its epochs settled by how many images there are.

    Raises:
        UsageError: a number out of range.
    """
    check_fit(fit)
    record = fit.record(count_training(reference.data_set, fit.holdout, fit.shots), residual=residual)
    return record if start is None else msgspec.structs.replace(record, start=start.record.digest)


def mask_steps(plan: MaskPlan) -> int:
    """Steps that training this mask takes; 0 for a random one."""
    if plan.fit is None or plan.task is None:
        return 0
    images = count_training(parse_reference(plan.task).data_set, plan.fit.holdout)
    return plan.fit.epochs * steps_per_epoch(images, plan.fit.batch_size)


def task_steps(request: TaskRequest) -> int:
    """Steps that learning this task takes; where a trial comes first, about."""
    images = count_training(request.reference.data_set, request.fit.holdout, request.fit.shots)
    steps = request.fit.epochs * steps_per_epoch(images, request.fit.batch_size)
    if request.parts.head and request.parts.residual:
        steps += residual_epochs(request.fit.epochs) * steps_per_epoch(images, request.fit.batch_size)
    return steps if request.instead is None else 2 * steps + task_steps(request.instead)


def residual_epochs(epochs: int) -> int:
    """Of those that a head is learned for, how many a residual is learned for with it after that."""
    return -(-epochs // 2)


def count_classes(references: Sequence[Reference]) -> int:
    """Classes that a network for all these tasks tells apart: as many as the task with most has."""
    return max(reference.data_set.classes for reference in references)


def shared_class_names(references: Sequence[Reference], data_dir: Path | None) -> tuple[str, ...] | None:
    """What the classes of all these tasks are called, if it is the same for all.

    Raises:
        DataError: a data set whose classes its folders name is not there.
    """
    first, *others = dict.fromkeys(classes_of_data(reference, data_dir).names for reference in references)
    return None if others else first


def choose_view(
    references: Sequence[Reference], *, size: int | None, mode: Literal["L", "RGB"] | None, photo_size: int
) -> Preprocess:
    """How a new bank's network is to have its images: as those of the first task are by nature, unless asked otherwise.

    Args:
        size, mode: what is asked for.
        photo_size: where images have no size by nature and none is asked for.

    Raises:
        UsageError: the size is out of range.
    """
    most = math.isqrt(MAX_PIXELS // 3)
    require(size is None or 1 <= size <= most, f"`image_size` {size}: expected 1 to {most:,}")
    data_set = references[0].data_set
    if data_set.input_shape is None:
        return photo_view(size or photo_size, grey=mode == "L")
    return changed_view(default_view(data_set), size=size, mode=mode)


def pretrained_view(
    view: Preprocess, *, size: int, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Preprocess:
    """The same for a network that others trained: in colours, normalised as its images were (else as ImageNet's)."""
    return msgspec.structs.replace(view, mode="RGB", size=(size, size), mean=mean or PHOTO_MEAN, std=std or PHOTO_STD)


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


def still_to_add(bank: Bank, requests: Sequence[TaskRequest]) -> list[TaskRequest]:
    """The requests not stored yet: an interrupted run resumes, and one that was done has nothing to do.

    Raises:
        TaskExists: one of the names is taken by a task made with other settings.
    """
    remove_abandoned(bank.path / TASKS)
    there = [request for request in requests if bank.tasks.has(request.name)]
    taken = [request.name for request in there if not _is_stored(bank, request)]
    if taken:
        raise task_exists(bank.path, taken)
    stored = {request.name for request in there}
    return [request for request in requests if request.name not in stored]


def _is_stored(bank: Bank, request: TaskRequest) -> bool:
    stored = bank.read_stored(request.name)
    asked = (str(request.reference), request.fit, request.parts)
    if (stored.record.task, stored.record.fit, _parts_of(stored)) == asked:
        classes = stored_classes(bank, stored.record.task, stored.record)
        if classes.names is not None and request.classes.names not in (None, classes.names):
            raise TaskExists(
                f"{bank.path} has {request.name}, learned with other classes than {request.reference} has now "
                f"({differing_names(classes.names, request.classes.names or ())}): remove it first (`impress task "
                "remove`), or choose another `name`"
            )
        return True
    return request.instead is not None and _is_stored(bank, request.instead)


def _parts_of(stored: StoredTask) -> Parts:
    """The parts that a stored task has."""
    return Parts(
        granularity=stored.record.granularity,
        alpha_type=stored.alpha_type,
        residual=0 if stored.residual is None else len(stored.residual),
        residual_bits=stored.record.residual_bits,
        hybrid=stored.mask is not None,
        head=0 if stored.head is None else stored.head.weight.shape[1],
        head_bits=stored.record.head_bits,
        residual_layers=stored.record.residual_layers,
        signed=stored.signature is not None,
    )
