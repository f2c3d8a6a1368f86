"""tasks/NAME.safetensors: one task, its coefficients over the bank's masks (docs/format.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from impress_format.container import record_of_task, seal_tensors, seal_text
from impress_format.errors import FormatError, UsageError
from impress_format.header import in_file_order, parse_header, read_tensors
from impress_format.limits import MAX_HEADER_BYTES, MAX_TASK_BYTES
from impress_format.manifest import check_file_version
from impress_format.numbers import FloatArray, NumbersError, NumberType, StoredArray, restore, rows_of, type_of
from impress_format.records import BankManifest, TaskRecord, alpha_columns, is_task_name
from impress_format.task_text import BASIS_DIGITS, START, TaskText, write_text

ALPHA = "alpha"
Images = Literal["test", "held-out"]
"""What an accuracy was measured on."""


class TaskOutline(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stored task as a list shows it: a million of these are made in a second."""

    task: str
    name: str
    coefficients: int
    bytes: int
    accuracy: float
    train_accuracy: float
    images: Images
    masks: int
    granularity: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTask:
    """A task's record, its alpha as float32 (K, columns), and the type alpha is stored in."""

    record: TaskRecord
    alpha: FloatArray
    alpha_type: NumberType


def read_task(
    path: Path, content: bytes, name: str, manifest: BankManifest, basis_digest: Callable[[int], str]
) -> StoredTask:
    """A task from the bytes of its file, all of it checked.

    Args:
        basis_digest: number of masks -> digest of the bank's first ones.

    Raises:
        FormatError: the file is damaged, or belongs to another basis.
    """
    header = parse_header(path, content)
    record = _record(path, content, header.record, manifest)
    if record.name != name:
        raise FormatError(path, f"holds task {record.name!r}, its file name says {name!r}")
    tensors = read_tensors(content, header)
    if set(tensors) != {ALPHA}:
        raise FormatError(path, f"holds {sorted(tensors)}, expected one tensor, alpha")
    columns = count_columns(manifest, record.granularity)
    if tensors[ALPHA].dtype == np.uint8 and manifest.format_version == 1:
        raise FormatError(path, "alpha is uint8, expected float32 or float16")
    try:
        alpha = restore(tensors[ALPHA], columns)
    except NumbersError as error:
        raise FormatError(path, f"alpha {error}") from error
    digits = BASIS_DIGITS if header.record.startswith(START) else len(record.basis)
    check_basis(path, record.basis[:digits], len(alpha), manifest, basis_digest)
    return StoredTask(record=record, alpha=alpha, alpha_type=type_of(tensors[ALPHA]))


def check_basis(path: Path, basis: str, masks: int, manifest: BankManifest, basis_digest: Callable[[int], str]) -> None:
    """Refuse an alpha that weighs other masks than the bank's first ones.

    Args:
        basis: all digits of their digest, or in version 2 its first half.

    Raises:
        FormatError: it does, or more than there are.
    """
    if masks > len(manifest.masks):
        raise FormatError(path, f"alpha weighs {masks} masks, the bank has {len(manifest.masks)}")
    if basis_digest(masks)[: len(basis)] != basis:
        raise FormatError(path, "was learned over another basis: it belongs to another bank")


def read_task_record(path: Path, content: bytes, manifest: BankManifest) -> TaskRecord:
    """Only the record of a task's file (its checksum is checked)."""
    return _record(path, content, parse_header(path, content).record, manifest)


def outline_task(path: Path, content: bytes, manifest: BankManifest, size: int) -> TaskOutline:
    """What a list of tasks shows of one that takes `size` bytes; `read_task` checks all there is to check.

    Raises:
        FormatError: the file is damaged.
    """
    header = parse_header(path, content)
    record = _record(path, content, header.record, manifest)
    columns = count_columns(manifest, record.granularity)
    if ALPHA not in header.tensors:
        raise FormatError(path, f"holds {sorted(header.tensors)}, expected alpha")
    try:
        masks = rows_of(header.tensors[ALPHA].numpy, header.tensors[ALPHA].shape, columns)
    except NumbersError as error:
        raise FormatError(path, f"alpha {error}") from error
    return TaskOutline(
        task=record.task,
        name=record.name,
        coefficients=masks * columns,
        bytes=size,
        accuracy=record.accuracy,
        train_accuracy=record.train_accuracy,
        images="held-out" if record.fit.holdout else "test",
        masks=masks,
        granularity=record.granularity,
    )


def is_of_version(path: Path, content: bytes, version: int) -> bool:
    """Whether a task's file is of this format version.

    Raises:
        FormatError: it is no safetensors file.
    """
    return version == (2 if parse_header(path, content).record.startswith(START) else 1)


def take_apart(path: Path, content: bytes) -> tuple[TaskText, dict[str, npt.NDArray[np.generic]]] | None:
    """Text and tensors of a file that `seal_parts` gives back byte for byte from them; None of any other.

    Raises:
        FormatError: the file is damaged.
    """
    header = parse_header(path, content)
    record = record_of_task(path, content, header.record)
    text, tensors = write_text(record), read_tensors(content, header)
    return (text, tensors) if seal_parts(text, tensors) == content else None


def seal_task(record: TaskRecord, alpha: StoredArray, version: int) -> bytes:
    """The file of a task in this format version, alpha in the type it has.

    Raises:
        UsageError: a value out of its range, or a type that this version does not have.
    """
    if version == 1:
        if alpha.dtype == np.uint8:
            raise UsageError("a bank of format version 1 stores no int8: run `impress bank upgrade` first")
        return seal_tensors(record, {ALPHA: np.ascontiguousarray(alpha)})
    content = seal_parts(write_text(record), {ALPHA: np.ascontiguousarray(alpha)})
    try:
        record_of_task(Path(record.name), content, parse_header(Path(record.name), content).record)
    except FormatError as error:
        raise UsageError(f"TaskRecord cannot be stored: {error.problem}") from error
    return content


def seal_parts(text: TaskText, parts: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    """The file of these parts."""
    return seal_text(text, in_file_order(parts))


def check_task_name(name: str) -> str:
    """The name, if a task may have it.

    Raises:
        UsageError: it may not (so that a name can never lead out of the bank's folder).
    """
    if not is_task_name(name):
        raise UsageError(f"invalid task name {name!r}: up to 100 of A-Z a-z 0-9 . _ - starting with a letter or digit")
    return name


def count_columns(manifest: BankManifest, granularity: int) -> int:
    """Columns of an alpha of this granularity."""
    return sum(alpha_columns(manifest.backbone.masked_layers, granularity))


def most_bytes(manifest: BankManifest) -> int:
    """Bytes of the largest task file: a float32 for each output channel and mask, header."""
    channels = sum(layer.shape[0] for layer in manifest.backbone.masked_layers)
    return min(MAX_TASK_BYTES, MAX_HEADER_BYTES + 4 * channels * len(manifest.masks))


def _record(path: Path, content: bytes, text: bytes, manifest: BankManifest) -> TaskRecord:
    check_file_version(path, 2 if text.startswith(START) else 1, manifest)
    return record_of_task(path, content, text)
