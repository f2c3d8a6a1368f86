"""A task reference -> its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from impress_format.errors import UsageError
from impress_format.records.manifest import Preprocess
from impress_format.weights import permutation
from impress_learn.progress import SILENT, Progress
from impress_learn.streams.images import Images, evenly_spread, transformed
from impress_learn.streams.reference import Reference
from impress_learn.streams.set_apart import count_held_out
from impress_learn.streams.survey import check_survey, measured_span
from impress_learn.streams.view import default_view, fitted


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskData:
    """One task: training and test images, and the held-out part of the training images (often empty).

    Each part is transformed when it is first asked for: measuring on 10,000 test images turns no 60,000 others.

    Attributes:
        view: how the images are wanted.
        source_train, source_validation, source_test: the images before that, and before the task's transform.
        numbers: for each class of the data its number in the task, -1 for none, whose images are left out; None where
            they are the same.
    """

    reference: Reference
    view: Preprocess
    source_train: Images
    source_validation: Images
    source_test: Images
    device: torch.device
    numbers: Sequence[int] | None = None

    @cached_property
    def train(self) -> Images:
        return self._made(self.source_train, training=True)

    @property
    def train_on_demand(self) -> Images:
        """`train`, of which each image is made whenever it is asked for where all of them are in a file."""
        return self._made(self.source_train, training=True, keep=False)

    @cached_property
    def validation(self) -> Images:
        return self._made(self.source_validation)

    @cached_property
    def test(self) -> Images:
        return self._made(self.source_test)

    def measured(self, *, holdout: float) -> Images:
        """The images accuracy is measured on: the held-out ones where there are any, else the test images."""
        return self.validation if holdout > 0 else self.test

    def _made(self, images: Images, *, training: bool = False, keep: bool = True) -> Images:
        stream, key, view = self.reference.stream, self.reference.key, self.view
        if self.numbers is not None:
            images = images.renumbered(self.numbers)
        made = transformed(
            images.normalised(view.mean, view.std),
            lambda pixels: stream.transform(fitted(pixels, view), key),
            stream.augment if training else None,
            keep=keep,
        )
        return made.to(self.device)


_MEASURED = 2000
_LEAST_STD = 0.05
"""Least deviation of images that are nearly of one shade: to divide by less would blow up noise."""


def measured_view(reference: Reference, view: Preprocess, *, data_dir: Path | None, holdout: float) -> Preprocess:
    """The view with the mean and deviation of a task's own training images, to four digits.

    Raises:
        DataError: as load_task.
    """
    train = load_task(reference, data_dir=data_dir, view=view, holdout=holdout).train
    some = evenly_spread(len(train), _MEASURED)
    pixels = train.pixels_of(some).double() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp(min=_LEAST_STD)
    return msgspec.structs.replace(
        view, **{name: tuple(round(one, 4) for one in each.tolist()) for name, each in (("mean", mean), ("std", std))}
    )


def spanned_view(references: Sequence[Reference], view: Preprocess, *, data_dir: Path | None) -> Preprocess:
    """The view with the span of the training images of more than 8 bits that a bank is created from, if there are some.

    Raises:
        DataError: as check_data.
    """
    surveys = [survey(data_dir, view) for each in references if (survey := each.data_set.survey) is not None]
    return msgspec.structs.replace(view, span=measured_span(surveys))


def check_data(
    references: Iterable[Reference],
    *,
    data_dir: Path | None,
    view: Preprocess | None = None,
    progress: Progress = SILENT,
) -> None:
    """Have the data of these tasks read, so that a run finds what is missing before it begins.

    Raises:
        DataError: a data set is missing, damaged, cannot be downloaded, or is on another scale (survey.py).
    """
    references = list(references)
    for read in (reference.remark for reference in references if reference.remark is not None):
        progress.remark(read)
    for data_set in {reference.data_set.name: reference.data_set for reference in references}.values():
        for remark in data_set.remarks:
            progress.remark(remark)
        if view is not None and data_set.survey is not None:
            check_survey(data_set.survey(data_dir, view), view, data_set.name, progress)
        data_set.load(data_dir, view or default_view(data_set), progress)


def load_task(
    reference: Reference,
    *,
    data_dir: Path | None,
    view: Preprocess | None = None,
    holdout: float = 0.0,
    device: torch.device | None = None,
    numbers: Sequence[int] | None = None,
) -> TaskData:
    """The task's images on `device` (default CPU); `holdout` of the training images set apart as validation.

    Args:
        data_dir: where data sets are; None for the default.
        view: how the bank's network wants its images; None for as they are by nature.
        numbers: as TaskData has them (classes.match_classes).

    Raises:
        DataError: the data set is missing, damaged, or cannot be downloaded.
    """
    data_set = reference.data_set
    view = view or default_view(data_set)
    train, test = data_set.load(data_dir, view, SILENT)
    kept, held = hold_out(train, holdout)
    return TaskData(
        reference=reference,
        view=view,
        source_train=kept,
        source_validation=held,
        source_test=test,
        device=device or torch.device("cpu"),
        numbers=numbers,
    )


def hold_out(train: Images, fraction: float) -> tuple[Images, Images]:
    """Split training images into (kept, held out). The choice is fixed, so that two commands hold out the same, and
    nested: what a smaller fraction holds out, a larger one holds out too. Images that belong together stay so.

    Raises:
        UsageError: none would be held out, or none kept.
    """
    if fraction == 0:
        return train, train.subset(torch.arange(0))
    order = torch.from_numpy(permutation(0, f"hold out/{len(train)}", len(train)))
    held, kept = split_order(order, count_held_out(len(train), fraction), train.sets)
    if len(kept) == 0:
        raise UsageError(f"`holdout` {fraction:g}: all {len(train):,} training images belong together: expected groups")
    return train.subset(kept.sort().values), train.subset(held.sort().values)


def split_order(order: Tensor, count: int, sets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first `count` of images in this order, and the others; with whole sets, of the first so many images at least,
    the sets in the order of their first images.

    Args:
        sets: as of Images.
    """
    if sets is None:
        return order[:count], order[count:]
    numbers, images = sets[order.cpu()], len(order)
    first = torch.full((int(numbers.max()) + 1,), images).scatter_reduce(0, numbers, torch.arange(images), "amin")
    by_set = torch.sort(first[numbers], stable=True).indices.to(order.device)
    begins = torch.sort(first[numbers], stable=True).values
    while 0 < count < images and begins[count] == begins[count - 1]:
        count += 1
    return order[by_set[:count]], order[by_set[count:]]


def training_images(
    data: TaskData, shots: int | None, seed: int, label_of: Callable[[int], str] = str, *, keep: bool = True
) -> Images:
    """What a task is learned from: all training images, or few of each class, varied as the stream allows (`jitter`).

    Args:
        keep: whether all of them are made now, or each when it is asked for, where that can be.

    Raises:
        UsageError: a class has fewer images.
    """
    train = data.train if keep else data.train_on_demand
    if shots is None:
        return train
    few, jitter = take_shots(train, shots, seed, label_of), data.reference.stream.jitter
    return few.varied(jitter) if jitter else few


def take_shots(train: Images, shots: int, seed: int, label_of: Callable[[int], str] = str) -> Images:
    """`shots` images of each class, chosen by the seed.

    Args:
        label_of: what a class is called, for people.

    Raises:
        UsageError: a class has fewer images.
    """
    order = torch.from_numpy(permutation(seed, f"shots/{len(train)}", len(train)))
    chosen = []
    for label in train.labels.unique():
        members = order[train.labels.cpu()[order] == label.cpu()]
        if len(members) < shots:
            raise UsageError(f"`shots` {shots}: class {label_of(int(label))} has only {len(members)} training images")
        chosen.append(members[:shots])
    return train.subset(torch.cat(chosen).sort().values)
