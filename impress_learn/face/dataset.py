"""A torch Dataset of one's own -> labelled images as a bank takes them, and what its classes are called."""

from __future__ import annotations

import math
import operator
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from impress_format.errors import DataError, OutOfMemory
from impress_format.limits import MAX_CLASSES
from impress_format.parts.class_names import some_names, unstorable
from impress_format.records.manifest import Preprocess
from impress_learn.face.own_images import read_image, why_not_normalised
from impress_learn.streams.classes import TaskClasses, renumbered, stored_classes
from impress_learn.streams.find_images import tell_notices
from impress_learn.streams.images import Images, ImagesInMemory, NormalisedImages
from impress_learn.streams.read_image import Notice
from impress_learn.streams.view import view_of, view_shape
from impress_learn.training.config import require

if TYPE_CHECKING:
    from impress_learn.running.loaded import RunningBank

OwnDataset: TypeAlias = "Dataset[Any] | Sequence[tuple[Any, Any]]"
"""A map-style Dataset, or any sequence, of (image, label)."""


def check_dataset(dataset: OwnDataset, what: str) -> int:
    """How many items a map-style Dataset has.

    Args:
        what: what to call it in messages: the parameter.

    Raises:
        UsageError: it is none, or empty.
    """
    kind = type(dataset).__name__
    require(
        not isinstance(dataset, IterableDataset),
        f"`{what}` is an iterable dataset ({kind}): expected a map-style one, with __len__ and __getitem__, as `list` "
        "makes of a finite one",
    )
    require(
        hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"),
        f"`{what}` is of type {kind}: expected a map-style Dataset, with __len__ and __getitem__",
    )
    count = len(dataset)  # type: ignore[arg-type]
    require(count > 0, f"`{what}` is empty: expected (image, label) items")
    return count


def class_names_of(dataset: OwnDataset, given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of the classes of a Dataset, in the order of its labels: those given, or `dataset.classes` as torchvision
    has it, also of a Subset; None where nothing tells.

    Raises:
        UsageError: fewer than two, one twice, or one that no bank stores.
    """
    names = given
    while names is None:
        names = getattr(dataset, "classes", None)
        if names is not None or not isinstance(dataset, Subset):
            break
        dataset = dataset.dataset
    if names is None:
        return None
    require(
        not isinstance(names, str) and all(isinstance(name, str) for name in names),
        f"`classes` {names!r}: expected a name for each class, as ['cat', 'dog']",
    )
    require(2 <= len(names) <= MAX_CLASSES, f"`classes` has {len(names):,} names: expected 2 to {MAX_CLASSES:,}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    require(not twice, f"`classes` names {some_names(twice)} twice")
    wrong = unstorable(names)
    require(
        wrong is None,
        f"`classes`: {wrong!r} cannot be stored: expected 1 to 1,024 characters, none of them invisible",
    )
    return tuple(names)


def read_dataset(
    dataset: OwnDataset,
    view: Preprocess,
    *,
    classes: int,
    what: str,
    bank: Path,
    remark: Callable[[str], None],
) -> Images:
    """All items of a Dataset, each read once, on the CPU.

    Args:
        view: how the bank wants them.
        classes: that labels are numbers of.
        what: what to call the Dataset in messages.
        bank: its folder, for messages.
        remark: is told what may make answers wrong.

    Raises:
        DataError: an item is no (image, label), or cannot be read; a label is no number of a class; images as pixels
            beside normalised ones.
        OutOfMemory: they do not fit.
        UsageError: as check_dataset.
    """
    count = check_dataset(dataset, what)
    noticed: Counter[Notice] = Counter()
    labels = torch.zeros(count, dtype=torch.int64)
    images: Tensor | None = None
    for index in range(count):
        try:
            image, label = _pair(dataset[index])
            labels[index] = _number(label, classes)
            pixels = read_image(image, view, lambda notice: noticed.update([notice]))
            if images is None:
                images = _room(count, view, pixels.dtype, what)
            elif pixels.dtype != images.dtype:
                raise DataError("one image is pixels and another is normalised already: expected all of one kind")
        except DataError as error:
            raise DataError(f"`{what}`, item {index}: {error}") from error
        images[index] = pixels
    assert images is not None
    for told in tell_notices(noticed, bank, view):
        remark(f"`{what}`: {told}")
    if images.dtype == torch.uint8:
        return ImagesInMemory(images, labels, view.mean, view.std)
    if (wrong := why_not_normalised(images, view)) is not None:
        raise DataError(f"`{what}`: {wrong}")
    return NormalisedImages(images, labels, view.mean, view.std)


def read_both(
    dataset: OwnDataset,
    test: OwnDataset | None,
    view: Preprocess,
    names: Sequence[str],
    bank: Path,
    remark: Callable[[str], None],
) -> tuple[Images, Images]:
    """Images to learn from and images to test on, none of these without `test`; else as read_dataset.

    Raises:
        As read_dataset. DataError: a class has no image to learn from.
    """
    learned = read_dataset(dataset, view, classes=len(names), what="dataset", bank=bank, remark=remark)
    present = set(learned.labels.unique().tolist())
    missing = [name for number, name in enumerate(names) if number not in present]
    if missing:
        raise DataError(
            f"`dataset` has no item of {some_names(missing)}: expected a label for each of the {len(names):,} names of "
            f"`classes`, and found {len(present):,}"
        )
    if test is None:
        return learned, learned.subset(torch.arange(0))
    return learned, read_dataset(test, view, classes=len(names), what="test", bank=bank, remark=remark)


def _room(count: int, view: Preprocess, dtype: torch.dtype, what: str) -> Tensor:
    try:
        return torch.empty(count, *view_shape(view), dtype=dtype)
    except RuntimeError as error:
        size = count * math.prod(view_shape(view)) * dtype.itemsize
        raise OutOfMemory(
            f"`{what}`: {count:,} images take {size / 1e9:,.1f} GB of memory, more than there is: give a Subset, or "
            "save them as files and learn folder:PATH, which is read as needed"
        ) from error


def _pair(item: object) -> tuple[Any, object]:
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    found = f"{len(item)} values" if isinstance(item, (tuple, list)) else f"of type {type(item).__name__}"
    raise DataError(f"is {found}: expected (image, label)")


def _number(label: object, classes: int) -> int:
    """The number of a class: an int, of NumPy too, or a tensor of one."""
    try:
        if isinstance(label, (bool, np.bool_)):
            raise TypeError
        if isinstance(label, Tensor) and (label.ndim > 0 or label.is_floating_point()):
            raise TypeError
        number = operator.index(label.item() if isinstance(label, Tensor) else label)  # type: ignore[arg-type]
    except TypeError as error:
        raise DataError(f"label {label!r}: expected the number of a class, an int") from error
    if not 0 <= number < classes:
        raise DataError(f"label {number} is outside 0 … {classes - 1}, the numbers of {classes:,} classes")
    return number


def dataset_accuracy(loaded: RunningBank, task: str, dataset: OwnDataset, classes: Sequence[str] | None) -> float:
    """As LoadedBank.accuracy."""
    from impress_learn.running.accuracy import predictions

    name = loaded.bank.find_task(task)
    record = loaded.bank.read_task_record(name)
    stored, names = stored_classes(loaded.bank, record.task, record), class_names_of(dataset, classes)
    images = read_dataset(
        dataset,
        view_of(loaded.bank),
        classes=stored.count if names is None else len(names),
        what="dataset",
        bank=loaded.bank.path,
        remark=lambda remark: warnings.warn(remark, stacklevel=5),
    )
    if names is not None:
        images = _numbered_as(images, names, stored, name)
    images = images.to(loaded.basis.device)
    answers = predictions(loaded.answering(stored.count), loaded.task_weights(name), images)
    return int((answers == images.labels).sum()) / len(images)


def _numbered_as(images: Images, names: tuple[str, ...], stored: TaskClasses, task: str) -> Images:
    """Images whose labels are numbers of these names, with those of the task's classes instead: they go by name.

    Raises:
        DataError: an image is of a class that the task does not know.
    """
    if stored.names is None:
        if len(names) != stored.count:
            raise DataError(
                f"{task} was learned with {stored.count:,} classes, which have no names; `dataset` has {len(names):,}"
            )
        return images
    numbers = renumbered(names, stored.names)
    unknown = [names[label] for label in images.labels.unique().tolist() if numbers[label] < 0]
    if unknown:
        raise DataError(
            f"`dataset` has images of {some_names(unknown)}; {task} tells {some_names(stored.names)} apart: give "
            "`classes`, what the dataset's labels are called there"
        )
    return images.renumbered(numbers)
