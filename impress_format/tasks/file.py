"""tasks/NAME.safetensors: one task, its parts over the bank's masks or its projection (docs/format.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from impress_format.container.header import Header, in_file_order, read_tensors
from impress_format.errors import FormatError, UsageError
from impress_format.manifest import check_file_version
from impress_format.parts.class_names import (
    CLASSES,
    check_number_of_names,
    fit_in_record,
    restore_class_names,
    store_class_names,
)
from impress_format.parts.numbers import NumbersError
from impress_format.parts.part import BankIdentity, Tensor
from impress_format.parts.table import (
    BY_NAME,
    beside,
    check_basis,
    check_present,
    check_settings,
    count_masks,
    facts_of,
    is_label,
    only_part,
    restore_parts,
    tensor_of,
)
from impress_format.records.fields import is_task_name
from impress_format.records.manifest import BankManifest
from impress_format.tasks.record import Images, TaskRecord
from impress_format.tasks.seal import record_of_task, seal_long, seal_short, seal_version_1, version_of_text
from impress_format.tasks.short import Tensors, is_short, parse_task
from impress_format.tasks.text import BASIS_DIGITS, TaskText, write_text


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTask:
    """A task as it is read.

    Attributes:
        values: what each of its parts stands for, by the part's name; `Part.of` gives one.
    """

    record: TaskRecord
    values: Mapping[str, object]

    @property
    def only(self) -> str | None:
        """The part that is all that it has, beside labels; None if it is more."""
        return only_part(self.values)


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stored task as a list shows it: a million of these are made in a second.

    `facts` are what its parts say of themselves (Part.facts): coefficients, masks, values, dimensions; 0 for none.
    Accuracies are None where the images have no labels to measure by.
    """

    task: str
    name: str
    facts: Mapping[str, int]
    bytes: int
    accuracy: float | None
    train_accuracy: float | None
    images: Images

    def flat(self) -> dict[str, object]:
        """All of it under one name each, as JSON has it."""
        return {  # spelled out: of a million tasks a loop over fields takes as long as all the rest
            "task": self.task,
            "name": self.name,
            **self.facts,
            "bytes": self.bytes,
            "accuracy": self.accuracy,
            "train_accuracy": self.train_accuracy,
            "images": self.images,
        }


def read_task(path: Path, content: bytes, name: str, manifest: BankManifest, identity: BankIdentity) -> StoredTask:
    """A task from the bytes of its file, all of it checked.

    Raises:
        FormatError: the file is damaged, or belongs to another basis.
    """
    header = parse_task(path, content)
    record = _record(path, content, header, manifest)
    if record.name != name:
        raise FormatError(path, f"holds task {record.name!r}, its file name says {name!r}")
    version = version_of_text(header.record)
    tensors = read_tensors(content, header)
    check_present(path, tensors, version)
    check_settings(path, tensors, record.settings, manifest)
    others = {part: tensor for part, tensor in tensors.items() if not is_label(part)}
    # The record has the names of classes already.
    labels = {part: tensor for part, tensor in tensors.items() if is_label(part) and part != CLASSES.name}
    values = restore_parts(path, others, record.settings, manifest, identity)
    shapes = {part: tensor_of(tensor) for part, tensor in tensors.items()}
    masks = count_masks(shapes, record.settings, beside(manifest, record.settings, tensors))
    digits = BASIS_DIGITS if version > 1 else len(record.basis)
    check_basis(path, record.basis[:digits], masks, tensors, manifest, identity)
    values |= restore_parts(path, labels, record.settings, manifest, identity)  # last: that of another bank says so
    return StoredTask(record=record, values=values)


def read_task_record(path: Path, content: bytes, manifest: BankManifest) -> TaskRecord:
    """Only the record of a task's file (its checksum is checked)."""
    return _record(path, content, parse_task(path, content), manifest)


def summarise_task(path: Path, content: bytes, manifest: BankManifest, size: int) -> TaskSummary:
    """What a list of tasks shows of one that takes `size` bytes; `read_task` checks all there is to check.

    Raises:
        FormatError: the file is damaged.
    """
    header = parse_task(path, content)
    record = _record(path, content, header, manifest)
    check_present(path, header.tensors, version_of_text(header.record))
    shapes = {part: Tensor(tensor.numpy, tuple(tensor.shape)) for part, tensor in header.tensors.items()}
    try:
        facts = facts_of(path, shapes, record.settings, manifest)
    except NumbersError as error:
        raise FormatError(path, f"has parts of no task: {error}") from error
    return TaskSummary(
        task=record.task,
        name=record.name,
        facts=facts,
        bytes=size,
        accuracy=record.accuracy,
        train_accuracy=record.train_accuracy,
        images=record.images,
    )


def is_of_version(path: Path, content: bytes, version: int) -> bool:
    """Whether a task's file is of this format version.

    Raises:
        FormatError: it is no safetensors file.
    """
    return version == version_of_text(parse_task(path, content).record)


@dataclass(frozen=True, slots=True, eq=False)
class Apart:
    """What a file of a task is made of, and in which form."""

    text: TaskText
    parts: dict[str, npt.NDArray[np.generic]]
    short: bool


def take_apart(path: Path, content: bytes) -> Apart | None:
    """What a file is made of that comes back from it byte for byte; None of any other.

    Raises:
        FormatError: the file is damaged.
    """
    header = parse_task(path, content)
    text, parts = write_text(record_of_task(path, content, header)), read_tensors(content, header)
    short = is_short(content)  # then it is what a writer makes: record_of_task has looked
    return Apart(text, parts, short) if short or seal_long(text, in_file_order(parts)) == content else None


def seal_task(record: TaskRecord, parts: Tensors, manifest: BankManifest) -> bytes:
    """The file of a task in the format version of its bank.

    Args:
        parts: as they are stored, by name (parts.table.stored_parts).

    Raises:
        UsageError: a value out of its range, a part or a type that this version does not have, or no part.
    """
    path, version = Path(record.name), manifest.format_version
    written, tensors = record, {part: BY_NAME[part].as_stored(tensor) for part, tensor in parts.items()}
    if version > 1 and not fit_in_record(record.class_names):
        written = msgspec.structs.replace(record, class_names=())
        tensors[CLASSES.name] = store_class_names(record.class_names)
    if version == 1:
        return _seal_version_1(record, tensors, manifest)
    try:
        check_present(path, tensors, version)
        check_settings(path, tensors, record.settings, manifest)
        _check_names(path, record, tensors, manifest)
        content = seal_parts(path, write_text(written), tensors)
    except FormatError as error:
        raise UsageError(f"a task cannot be stored: it {error.problem}") from error
    try:
        _record(path, content, parse_task(path, content), manifest)
    except FormatError as error:
        raise UsageError(f"TaskRecord cannot be stored: {error.problem}") from error
    return content


def _seal_version_1(record: TaskRecord, tensors: Tensors, manifest: BankManifest) -> bytes:
    path, shapes = Path(record.name), {part: tensor_of(tensor) for part, tensor in tensors.items()}
    try:
        check_present(path, tensors, 1)
        facts_of(path, shapes, record.settings, manifest)
    except (FormatError, NumbersError) as error:
        raise UsageError(
            "a bank of format version 1 stores alpha alone, and none as int8: run `impress bank upgrade` first"
        ) from error
    if record.fit is None or not record.fit.is_of_version_1:
        raise UsageError("a bank of format version 1 stores tasks learned by plain Adam alone")
    return seal_version_1(record, tensors)


def rename_task(path: Path, content: bytes, name: str, version: int) -> bytes:
    """The file of the same task under another name.

    Raises:
        FormatError: the file is damaged.
    """
    header = parse_task(path, content)
    record = msgspec.structs.replace(record_of_task(path, content, header), name=name)
    tensors = read_tensors(content, header)
    return seal_version_1(record, tensors) if version == 1 else seal_parts(path, write_text(record), tensors)


def seal_parts(path: Path, text: TaskText, parts: Tensors) -> bytes:
    """The file of these parts.

    Raises:
        FormatError: there is one that no file holds.
        UsageError: a file too large.
    """
    return seal_short(path, text, in_file_order(parts))


def check_task_name(name: str) -> str:
    """The name, if a task may have it.

    Raises:
        UsageError: it may not (so that a name can never lead out of the bank's folder).
    """
    if not is_task_name(name):
        raise UsageError(f"invalid task name {name!r}: up to 100 of A-Z a-z 0-9 . _ - starting with a letter or digit")
    return name


def _record(path: Path, content: bytes, header: Header, manifest: BankManifest) -> TaskRecord:
    """The record, with the names of classes that a part of the file has for it."""
    check_file_version(path, version_of_text(header.record), manifest)
    record = record_of_task(path, content, header)
    if CLASSES.name in header.tensors:
        if record.class_names:
            raise FormatError(path, "names its classes twice: in its record and in a part")
        try:
            names = restore_class_names(read_tensors(content, header)[CLASSES.name])
        except NumbersError as error:
            raise FormatError(path, f"{CLASSES.name} {error}") from error
        record = msgspec.structs.replace(record, class_names=names)
    _check_names(path, record, header.tensors, manifest)
    return record


def _check_names(path: Path, record: TaskRecord, present: Collection[str], manifest: BankManifest) -> None:
    try:
        around = beside(manifest, record.settings, present)
        check_number_of_names(len(record.class_names), record.settings.classes, around)
    except NumbersError as error:
        raise FormatError(path, str(error)) from error
