"""tasks/NAME.safetensors: one task, its coefficients over the bank's masks (docs/format.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from impress_format.class_names import fit_in_record, restore_class_names, store_class_names
from impress_format.container import record_of_task, seal_tensors, seal_text
from impress_format.errors import FormatError, UsageError
from impress_format.head import count_dimensions, restore_head
from impress_format.header import Header, in_file_order, parse_header, read_tensors
from impress_format.limits import MAX_HEADER_BYTES, MAX_TASK_BYTES
from impress_format.manifest import check_file_version
from impress_format.numbers import NumbersError, restore, rows_of, type_of
from impress_format.own_mask import restore_own_mask
from impress_format.records import BankManifest, TaskRecord, is_task_name
from impress_format.residual import count_values, restore_residual
from impress_format.task_parts import (
    ALPHA,
    CLASSES,
    HEAD,
    MASK,
    RESIDUAL,
    SIGNATURE,
    StoredTask,
    TaskParts,
    Ties,
    check_basis,
    check_class_names,
    check_parts,
    check_said,
    check_signatures,
    count_classes,
    count_columns,
)
from impress_format.task_text import BASIS_DIGITS, START, TaskText, write_text

Images = Literal["test", "held-out"]
"""What an accuracy was measured on."""


class TaskOutline(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stored task as a list shows it: a million of these are made in a second.

    `coefficients` is the number of those, `residual` that of the residual's values, `head` that of the head's
    dimensions; 0 for none.
    """

    task: str
    name: str
    coefficients: int
    residual: int
    head: int
    bytes: int
    accuracy: float
    train_accuracy: float
    images: Images
    masks: int
    granularity: int


def read_task(path: Path, content: bytes, name: str, manifest: BankManifest, ties: Ties) -> StoredTask:
    """A task from the bytes of its file, all of it checked.

    Raises:
        FormatError: the file is damaged, or belongs to another basis.
    """
    header = parse_header(path, content)
    record = _record(path, content, header, manifest)
    if record.name != name:
        raise FormatError(path, f"holds task {record.name!r}, its file name says {name!r}")
    tensors = read_tensors(content, header)
    check_parts(path, tensors, header.record.startswith(START))
    columns = count_columns(manifest, record.granularity, hybrid=MASK in tensors)
    stored = tensors.get(ALPHA)
    if stored is not None and stored.dtype == np.uint8 and manifest.format_version == 1:
        raise FormatError(path, "alpha is uint8, expected float32 or float16")
    layers = manifest.backbone.masked_layers
    check_said(path, tensors, record, manifest.backbone)
    residual = mask = head = None
    part = ALPHA
    try:
        alpha = np.zeros((0, columns), dtype=np.float32) if stored is None else restore(stored, columns)
        if (part := RESIDUAL) in tensors:
            covered = manifest.backbone.residual_layers(record.residual_layers)
            residual = restore_residual(tensors[RESIDUAL], record.residual_bits, covered)
        if (part := MASK) in tensors:
            mask = restore_own_mask(tensors[MASK], layers[-1])
        if (part := HEAD) in tensors:
            head = restore_head(tensors[HEAD], record.head_bits, count_classes(manifest, record), ties.directions())
    except NumbersError as error:
        raise FormatError(path, f"{part} {error}") from error
    digits = BASIS_DIGITS if header.record.startswith(START) else len(record.basis)
    check_basis(path, record.basis[:digits], len(alpha), head is not None, manifest, ties)
    signature = tensors.get(SIGNATURE)
    if signature is not None:
        check_signatures(path, signature[np.newaxis], ties)
    return StoredTask(
        record=record,
        alpha=alpha,
        alpha_type=None if stored is None else type_of(stored),
        residual=residual,
        mask=mask,
        head=head,
        signature=None if signature is None else signature.tobytes(),
    )


def read_task_record(path: Path, content: bytes, manifest: BankManifest) -> TaskRecord:
    """Only the record of a task's file (its checksum is checked)."""
    return _record(path, content, parse_header(path, content), manifest)


def outline_task(path: Path, content: bytes, manifest: BankManifest, size: int) -> TaskOutline:
    """What a list of tasks shows of one that takes `size` bytes; `read_task` checks all there is to check.

    Raises:
        FormatError: the file is damaged.
    """
    header = parse_header(path, content)
    record = _record(path, content, header, manifest)
    columns = count_columns(manifest, record.granularity, hybrid=MASK in header.tensors)
    check_parts(path, header.tensors, header.record.startswith(START))
    alpha, residual, head = (header.tensors.get(part) for part in (ALPHA, RESIDUAL, HEAD))
    check_said(path, header.tensors, record, manifest.backbone)
    layers = len(manifest.backbone.residual_layers(record.residual_layers))
    classes = count_classes(manifest, record)
    try:
        masks = 0 if alpha is None else rows_of(alpha.numpy, alpha.shape, columns)
        values = 0 if residual is None else count_values(prod(residual.shape), record.residual_bits, layers)
        dimensions = 0 if head is None else count_dimensions(prod(head.shape), record.head_bits, classes)
    except NumbersError as error:
        raise FormatError(path, f"has parts of no task: {error}") from error
    return TaskOutline(
        task=record.task,
        name=record.name,
        coefficients=masks * columns,
        residual=values,
        head=dimensions,
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


def seal_task(record: TaskRecord, parts: TaskParts, manifest: BankManifest) -> bytes:
    """The file of a task in the format version of its bank, alpha in the type it has.

    Raises:
        UsageError: a value out of its range, a part or a type that this version does not have, or no part.
    """
    if manifest.format_version == 1:
        tensors = parts.tensors()
        if parts.alpha is None or parts.alpha.dtype == np.uint8 or len(tensors) > 1:
            raise UsageError(
                "a bank of format version 1 stores alpha alone, and none as int8: run `impress bank upgrade` first"
            )
        if not record.fit.is_of_version_1:
            raise UsageError("a bank of format version 1 stores tasks learned by plain Adam alone")
        return seal_tensors(record, tensors)
    path, written = Path(record.name), record
    if not fit_in_record(record.class_names):
        written = msgspec.structs.replace(record, class_names=())
        parts = replace(parts, classes=store_class_names(record.class_names))
    tensors = parts.tensors()
    try:
        check_parts(path, tensors)
        check_said(path, tensors, record, manifest.backbone)
        check_class_names(path, len(record.class_names), HEAD in tensors, record, manifest)
    except FormatError as error:
        raise UsageError(f"a task cannot be stored: it {error.problem}") from error
    content = seal_parts(write_text(written), tensors)
    try:
        _record(path, content, parse_header(path, content), manifest)
    except FormatError as error:
        raise UsageError(f"TaskRecord cannot be stored: {error.problem}") from error
    return content


def rename_task(path: Path, content: bytes, name: str, version: int) -> bytes:
    """The file of the same task under another name.

    Raises:
        FormatError: the file is damaged.
    """
    header = parse_header(path, content)
    record = msgspec.structs.replace(record_of_task(path, content, header.record), name=name)
    tensors = read_tensors(content, header)
    return seal_tensors(record, tensors) if version == 1 else seal_parts(write_text(record), tensors)


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


def most_bytes(manifest: BankManifest) -> int:
    """Bytes of the largest task file: a float32 for each output channel and mask, header."""
    channels = sum(layer.shape[0] for layer in manifest.backbone.masked_layers)
    return min(MAX_TASK_BYTES, MAX_HEADER_BYTES + 4 * channels * len(manifest.masks))


def _record(path: Path, content: bytes, header: Header, manifest: BankManifest) -> TaskRecord:
    """The record, with the names of classes that a part of the file has for it."""
    text = header.record
    check_file_version(path, 2 if text.startswith(START) else 1, manifest)
    record = record_of_task(path, content, text)
    if CLASSES in header.tensors:
        if record.class_names:
            raise FormatError(path, "names its classes twice: in its record and in a part")
        try:
            names = restore_class_names(read_tensors(content, header)[CLASSES])
        except NumbersError as error:
            raise FormatError(path, f"{CLASSES} {error}") from error
        record = msgspec.structs.replace(record, class_names=names)
    check_class_names(path, len(record.class_names), HEAD in header.tensors, record, manifest)
    return record
