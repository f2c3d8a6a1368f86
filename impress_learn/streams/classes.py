"""The classes of a task: how many, what they are called, and which of today's data are which. They go by name.

A stored task knows its classes by its own file, by its bank, or by a reference whose classes never change. The folder
of a task may have others by now: it is never asked what a stored class is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, DataError, InvalidReference
from impress_format.parts.class_names import some_names
from impress_format.tasks.record import TaskRecord
from impress_format.versions import require_version
from impress_learn.streams.reference import Reference, parse_reference
from impress_learn.streams.stream import DataSet
from impress_learn.streams.table import STREAMS

_UNKNOWN = -1
FEW_IMAGES = 20
"""Test images of a class below which its accuracy is told with a remark: its standard error is 11 % at the worst."""
_EXCESS = 0.25
"""How far above an even share, of what is left, one class may be before it is said."""


@dataclass(frozen=True)
class TaskClasses:
    """Classes in the order of the outputs that answer for them.

    Attributes:
        count: how many there are.
        names: what they are called, or None where only their numbers are known.
        exact: whether there are so many, and not at most so many.
    """

    count: int
    names: tuple[str, ...] | None
    exact: bool = True

    def label(self, number: int) -> str:
        """What class `number` is called: its name, else the number."""
        return str(number) if self.names is None else self.names[number]


def classes_of_data(reference: Reference, data_dir: Path | None) -> TaskClasses:
    """The classes that the data of a reference have today.

    Raises:
        DataError: a data set whose classes its folders name is not there.
    """
    data_set = reference.data_set
    return TaskClasses(data_set.classes, data_set.names(data_dir))


def names_to_store(bank: Bank, reference: Reference, classes: TaskClasses) -> tuple[str, ...]:
    """What the file of a task with these classes is to say: names that its reference does not tell. None in a bank of
    format version 1. What the bank calls its classes does not count: a task may travel to another.
    """
    told = None if reference.stream.names_by_data else reference.data_set.class_names
    unsaid = classes.names is None or classes.names == told or bank.manifest.format_version == 1
    return () if unsaid or classes.names is None else classes.names


def count_to_store(bank: Bank, classes: TaskClasses) -> int:
    """What the file of a task with these classes is to say of their number: 0 for that of the network's outputs."""
    unsaid = classes.count == bank.backbone.classes or bank.manifest.format_version == 1
    return 0 if unsaid else classes.count


def check_sayable(bank: Bank, reference: Reference) -> None:
    """Refuse a task of which its file could not say which of the network's outputs answer.

    Raises:
        BankMismatch: a folder with fewer classes than the network has, in a bank of format version 1.
    """
    classes = reference.data_set.classes
    if reference.stream.names_by_data and classes < bank.backbone.classes:
        limit = f"which cannot say that {reference} has {classes:,} of its network's {bank.backbone.classes:,} classes"
        require_version(bank.path, bank.manifest.format_version, limit)


def mask_classes(references: Sequence[Reference], data_dir: Path | None) -> dict[str, tuple[str, ...]]:
    """Class names of those of these tasks whose references do not tell them, for the manifest.

    Raises:
        DataError: as classes_of_data.
    """
    found = {
        str(reference): classes_of_data(reference, data_dir).names
        for reference in dict.fromkeys(references)
        if reference.stream.names_by_data
    }
    return {task: names for task, names in found.items() if names is not None}


def stored_classes(bank: Bank, task: str, record: TaskRecord | None) -> TaskClasses:
    """The classes of a task of the bank, as its data were when it was learned. No folder is read.

    Args:
        task: its reference.
        record: of its file; None for a mask's own task.
    """
    names = bank.manifest.classes_of_mask(task) if record is None else record.class_names
    count = 0 if record is None else record.settings.classes.count
    if not names and (fixed := fixed_data_set(task)) is not None:
        return TaskClasses(fixed.classes, fixed.class_names)
    if not names and not count and bank.manifest.class_names is not None:
        names = bank.manifest.class_names
    if names:
        return TaskClasses(len(names), names)
    stream = STREAMS.get(_stream_name(task))
    known = count or (stream and stream.classes) or None
    return TaskClasses(known or bank.backbone.classes, None, exact=known is not None or record is not None)


def masks_that_may_answer(bank: Bank, classes: TaskClasses) -> list[bool]:
    """For each mask, whether its outputs stand for these classes, as far as names tell. A mask answers by the classes
    of its own task, in their order.
    """
    tasks = [plan.task for plan in bank.manifest.masks]
    of_masks = [None if task is None else stored_classes(bank, task, None).names for task in tasks]
    return [names is None or classes.names is None or names[: classes.count] == classes.names for names in of_masks]


def classes_of_masks(bank: Bank) -> TaskClasses:
    """The classes that all trained masks of a bank tell apart.

    Raises:
        BankMismatch: they do not all tell the same ones apart, by the same outputs, or there is none.
    """
    found = [stored_classes(bank, plan.task, None) for plan in bank.manifest.masks if plan.task is not None]
    others = [one for one in found if one != found[0]]
    if not found or others:
        differ = "none of its masks was trained" if not found else "its masks tell different classes apart"
        raise BankMismatch(f"{bank.path}: {differ}, so that images without labels cannot be told what they may show")
    return found[0]


def fixed_data_set(task: str) -> DataSet | None:
    """The data set of a reference whose classes are the same for everybody; None of any other."""
    stream = STREAMS.get(_stream_name(task))
    if stream is None or stream.names_by_data:
        return None
    try:
        return parse_reference(task).data_set
    except InvalidReference:  # a key of another release
        return None


def _stream_name(task: str) -> str:
    return re.split("[:/]", task, maxsplit=1)[0]


def match_classes(task: str, stored: TaskClasses, data: TaskClasses, remark: Callable[[str], None]) -> list[int] | None:
    """For each class of the data the number that it has in the task, -1 where it has none; None where all agree.

    What differs is told; classes without names are taken in their order, where there are as many.

    Args:
        task: what it is called, for people.
        stored: the classes that the task was learned with.
        data: those that its data have today.

    Raises:
        DataError: none of the task's classes is in the data, or classes without names are not as many.
    """
    if stored == data or not data.count:  # of images without labels nothing is asked
        return None
    if stored.names is None or data.names is None:
        if stored.count != data.count if stored.exact else stored.count < data.count:
            raise DataError(
                f"{task} was learned with {stored.count:,} classes, which have no names, and its data have "
                f"{data.count:,} by now: nobody knows which is which; add it again under another `name`"
            )
        if data.names is not None:
            remark(f"{task} has no names of classes: they are taken in the order of those in its data")
        return None
    table = renumbered(data.names, stored.names)
    unknown = [name for name, number in zip(data.names, table, strict=True) if number == _UNKNOWN]
    missing = [name for name in stored.names if name not in set(data.names)]
    if len(unknown) == len(data.names):
        raise DataError(
            f"{task} was learned with the classes {some_names(stored.names)}; its data have none of these by now, but "
            f"{some_names(unknown)}"
        )
    if unknown:
        remark(f"{task} was learned without {some_names(unknown)}: images of {_these(unknown)} are left out")
    if missing:
        remark(f"{task} was learned with {some_names(missing)}: its data have no image of {_these(missing)} by now")
    return table


def share_classes(one: TaskClasses, other: TaskClasses) -> bool:
    """Whether a class of one may be a class of the other: one has the same name, or as many have none."""
    if one.names is None or other.names is None:
        return one.count == other.count
    return not set(one.names).isdisjoint(other.names)


def renumbered(names: Sequence[str], among: Sequence[str]) -> list[int]:
    """The number of each name among others, -1 where it is not there."""
    numbers: Mapping[str, int] = {name: number for number, name in enumerate(among)}
    return [numbers.get(name, _UNKNOWN) for name in names]


def uneven_remark(task: str, classes: TaskClasses, images: Sequence[int], what: str, *, few: bool = True) -> str | None:
    """What is to be said of how many images there are of each class; None where that is nothing.

    Args:
        images: of each class that has any.
        what: which images they are, `test images`.
        few: whether to say that there are too few to measure accuracy on.
    """
    present = [(count, number) for number, count in enumerate(images) if count]
    if len(present) == 1 and classes.count > 1:
        return f"{task}: all of the {what} are of {classes.label(present[0][1])}: they say nothing of the other classes"
    if len(present) < 2:
        return None
    (most, largest), (least, smallest), total = max(present), min(present), sum(images)
    even = 1 / len(present)
    if most / total > even + _EXCESS * (1 - even):
        return (
            f"{task}: {most / total:.1%} of {total:,} {what} are of {classes.label(largest)}, so that to answer this "
            "always would be right as often: look at the balanced accuracy"
        )
    if few and least < FEW_IMAGES:
        scarce = sum(count < FEW_IMAGES for count, _ in present)
        return (
            f"{task}: only {least} of the {what} are of {classes.label(smallest)}"
            + (f" (fewer than {FEW_IMAGES} of {scarce} classes)" if scarce > 1 else "")
            + ": accuracy of so few is a rough guess"
        )
    return None


def _these(names: Sequence[str]) -> str:
    return "this class" if len(names) == 1 else "these classes"
