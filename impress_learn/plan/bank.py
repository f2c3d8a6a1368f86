"""What a new bank is to be, from references and a training config, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from impress_format import __version__
from impress_format.limits import MAX_MASKS, MAX_PIXELS
from impress_format.records.manifest import BankManifest, Instructions, MadeWith, Preprocess
from impress_format.records.masks import MaskPlan
from impress_format.records.network import BackboneSpec
from impress_format.versions import FORMAT_VERSION
from impress_format.weights import substream_seed
from impress_learn.plan.asked import Masks
from impress_learn.streams.classes import classes_of_data
from impress_learn.streams.held_out import count_training
from impress_learn.streams.reference import Reference, parse_reference
from impress_learn.streams.view import PHOTO_MEAN, PHOTO_STD, changed_view, default_view, photo_view
from impress_learn.training.config import MaskTraining, check_number, check_training, require, steps_per_epoch


def plan_masks(
    references: Sequence[Reference],
    fit: MaskTraining,
    masks: Masks,
    *,
    like: MaskPlan | None = None,
) -> tuple[MaskPlan, ...]:
    """One mask a reference (heterogeneous), several (homogeneous), and random ones after them.

    Every seed is drawn from that of `fit`.

    Args:
        like: the mask that they are like in what `masks` leaves open; None for those of a new bank.

    Raises:
        UsageError: a number out of range.
    """
    masks_per_task, random_masks = masks.masks_per_task, masks.random_masks
    density = (0.1 if like is None else like.density) if masks.density is None else masks.density
    mask_type = ("binary" if like is None else like.type) if masks.mask_type is None else masks.mask_type
    allocation = ("uniform" if like is None else like.allocation) if masks.allocation is None else masks.allocation
    require(0.0 < density <= 1.0, f"`density` {density}: expected a number above 0 and at most 1")
    check_number("masks_per_task", masks_per_task, least=0, most=MAX_MASKS)
    check_number("random_masks", random_masks, least=0, most=MAX_MASKS)
    require_room(len(references) * masks_per_task + random_masks, len(references), masks)
    require(
        not (random_masks and mask_type == "real"), "`random_masks` are binary or signed: leave out `mask_type` real"
    )
    check_training(fit)
    for reference in references:
        require(
            reference.data_set.labelled,
            f"{reference} has no labels, which masks are trained by: expected its images in a folder for each class",
        )
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


def require_room(count: int, references: int, masks: Masks) -> None:
    """Refuse more masks than a bank holds.

    Args:
        count: how many it would have.
        masks: what is asked for, for so many references.

    Raises:
        UsageError: with what they come from.
    """
    require(
        count <= MAX_MASKS,
        f"`masks_per_task` {masks.masks_per_task:,} for {references:,} tasks and `random_masks` {masks.random_masks:,} "
        f"make a bank of {count:,} masks, expected at most {MAX_MASKS:,}: name fewer tasks, or ask for fewer masks",
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
    task_classifier: bool,
    instructions: Instructions | None = None,
) -> BankManifest:
    """The manifest of a new bank.

    Args:
        view: how its images are made.
        class_names: of all its tasks, or None where they differ.
        mask_classes: of its tasks by reference, where the reference does not tell.
        instructions: that it is computed with on every machine; None for those of this one.
    """
    learned = {mask.task for mask in masks}
    own = {task: names for task, names in mask_classes.items() if task in learned and names != class_names}
    return BankManifest(
        format_version=FORMAT_VERSION,
        made_with=MadeWith(
            impress=__version__,
            **{name: metadata.version(name) for name in ("torch", "timm", "numpy")},
            instructions=instructions,
        ),
        seed=seed,
        preprocess=view,
        class_names=class_names,
        backbone=backbone,
        masks=masks,
        calibration=calibration,
        recogniser=task_classifier,
        mask_classes=own or msgspec.UNSET,
    )


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


def mask_steps(plan: MaskPlan, reference: Reference | None = None) -> int:
    """Steps that training this mask takes; 0 for a random one.

    Args:
        reference: of its task, where it was parsed before.
    """
    if plan.fit is None or plan.task is None:
        return 0
    images = count_training((reference or parse_reference(plan.task)).data_set, plan.fit.holdout)
    return plan.fit.epochs * steps_per_epoch(images, plan.fit.batch_size)
