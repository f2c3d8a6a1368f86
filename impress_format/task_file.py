"""tasks/NAME.safetensors: one task, its coefficients over the bank's masks (docs/format.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from impress_format.codec import BoolArray
from impress_format.container import record_of_task, seal_tensors, seal_text
from impress_format.errors import FormatError, UsageError
from impress_format.header import in_file_order, parse_header, read_tensors
from impress_format.limits import MAX_HEADER_BYTES, MAX_TASK_BYTES
from impress_format.manifest import check_file_version
from impress_format.numbers import FloatArray, NumbersError, NumberType, StoredArray, restore, rows_of, type_of
from impress_format.own_mask import restore_own_mask
from impress_format.records import SIGNATURE_BYTES, BankManifest, TaskRecord, alpha_columns, is_task_name
from impress_format.residual import count_values, restore_residual
from impress_format.task_text import BASIS_DIGITS, START, TaskText, write_text

ALPHA, MASK, RESIDUAL, SIGNATURE = "alpha", "mask", "residual", "signature"
PARTS = frozenset({ALPHA, MASK, RESIDUAL, SIGNATURE})
Images = Literal["test", "held-out"]
"""What an accuracy was measured on."""


class TaskOutline(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stored task as a list shows it: a million of these are made in a second.

    `coefficients` is the number of those, `residual` that of the residual's values; 0 for none.
    """

    task: str
    name: str
    coefficients: int
    residual: int
    bytes: int
    accuracy: float
    train_accuracy: float
    images: Images
    masks: int
    granularity: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTask:
    """A task as it is read.

    Attributes:
        alpha: float32 (K, columns); K is 0 for a task that weighs no mask.
        alpha_type: what it is stored in; None for a task that weighs no mask.
        residual: float32 (values,), those of all layers one after the other, or None.
        mask: bool, the last layer's shape, where alpha has no column for that layer (hybrid); or None.
        signature: or None.
    """

    record: TaskRecord
    alpha: FloatArray
    alpha_type: NumberType | None
    residual: FloatArray | None
    mask: BoolArray | None
    signature: bytes | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskParts:
    """The parts of a task as they are stored: at least one of the first two.

    Attributes:
        alpha: as numbers.store gives it.
        residual: as residual.store_residual gives it.
        mask: as own_mask.store_own_mask gives it.
        signature: 64 bytes.
    """

    alpha: StoredArray | None = None
    residual: npt.NDArray[np.uint8] | None = None
    mask: npt.NDArray[np.uint8] | None = None
    signature: bytes | None = None

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """The tensors of the file."""
        tensors: dict[str, npt.NDArray[np.generic]] = {}
        if self.alpha is not None:
            tensors[ALPHA] = np.ascontiguousarray(self.alpha)
        if self.residual is not None:
            tensors[RESIDUAL] = self.residual
        if self.mask is not None:
            tensors[MASK] = self.mask
        if self.signature is not None:
            tensors[SIGNATURE] = np.frombuffer(self.signature, dtype=np.uint8)
        return tensors


@dataclass(frozen=True, slots=True)
class Ties:
    """What a task must have been made with to belong to a bank.

    Attributes:
        basis_digest: number of masks -> digest of the bank's first ones.
        recogniser_tag: what its recogniser's signatures begin with; raises FormatError if it has none.
    """

    basis_digest: Callable[[int], str]
    recogniser_tag: Callable[[], bytes]


def read_task(path: Path, content: bytes, name: str, manifest: BankManifest, ties: Ties) -> StoredTask:
    """A task from the bytes of its file, all of it checked.

    Raises:
        FormatError: the file is damaged, or belongs to another basis.
    """
    header = parse_header(path, content)
    record = _record(path, content, header.record, manifest)
    if record.name != name:
        raise FormatError(path, f"holds task {record.name!r}, its file name says {name!r}")
    tensors = read_tensors(content, header)
    check_parts(path, tensors, header.record.startswith(START))
    columns = count_columns(manifest, record.granularity, hybrid=MASK in tensors)
    stored = tensors.get(ALPHA)
    if stored is not None and stored.dtype == np.uint8 and manifest.format_version == 1:
        raise FormatError(path, "alpha is uint8, expected float32 or float16")
    try:
        alpha = np.zeros((0, columns), dtype=np.float32) if stored is None else restore(stored, columns)
    except NumbersError as error:
        raise FormatError(path, f"alpha {error}") from error
    residual = None
    check_residual_bits(path, RESIDUAL in tensors, record.residual_bits)
    if RESIDUAL in tensors:
        try:
            residual = restore_residual(tensors[RESIDUAL], record.residual_bits, manifest.backbone.masked_layers)
        except NumbersError as error:
            raise FormatError(path, f"residual {error}") from error
    mask = None
    if MASK in tensors:
        try:
            mask = restore_own_mask(tensors[MASK], manifest.backbone.masked_layers[-1])
        except NumbersError as error:
            raise FormatError(path, f"mask {error}") from error
    digits = BASIS_DIGITS if header.record.startswith(START) else len(record.basis)
    check_basis(path, record.basis[:digits], len(alpha), manifest, ties)
    signature = tensors.get(SIGNATURE)
    if signature is not None:
        check_signatures(path, signature[np.newaxis], ties)
    return StoredTask(
        record=record,
        alpha=alpha,
        alpha_type=None if stored is None else type_of(stored),
        residual=residual,
        mask=mask,
        signature=None if signature is None else signature.tobytes(),
    )


def check_parts(path: Path, parts: Collection[str], newest: bool = True) -> None:
    """Refuse parts that no task has, and a task without alpha and residual. Version 1 knows alpha alone.

    Raises:
        FormatError: there are such.
    """
    if not newest:
        if set(parts) != {ALPHA}:
            raise FormatError(path, f"holds {sorted(parts)}, expected one tensor, alpha")
    elif not PARTS.issuperset(parts) or not {ALPHA, RESIDUAL}.intersection(parts):
        raise FormatError(path, f"holds {sorted(parts)}, expected alpha, residual or both, perhaps mask and signature")


def check_residual_bits(path: Path, there: bool, bits: int) -> None:
    """Refuse a residual in a task that says it has none, and the reverse.

    Raises:
        FormatError: it is so.
    """
    if there != bool(bits):
        raise FormatError(path, f"says that a value of its residual takes {bits} bits, and has "
            + ("a residual" if there else "none"))  # fmt: skip


def check_signatures(path: Path, signatures: npt.NDArray[np.generic], ties: Ties) -> None:
    """Refuse signatures (N, ...) of another form, or made with another recogniser than the bank's.

    Raises:
        FormatError: there are such.
    """
    if signatures.dtype != np.uint8 or signatures.shape[1:] != (SIGNATURE_BYTES,):
        raise FormatError(
            path, f"signature is {signatures.dtype} {signatures.shape[1:]}, expected {SIGNATURE_BYTES} bytes"
        )
    tag = np.frombuffer(ties.recogniser_tag(), dtype=np.uint8)
    if (signatures[:, : len(tag)] != tag).any():
        raise FormatError(path, "has a signature that was not made with this bank's recogniser")


def check_basis(path: Path, basis: str, masks: int, manifest: BankManifest, ties: Ties) -> None:
    """Refuse an alpha that weighs other masks than the bank's first ones.

    Args:
        basis: all digits of their digest, or in version 2 its first half.

    Raises:
        FormatError: it does, or more than there are.
    """
    if masks > len(manifest.masks):
        raise FormatError(path, f"alpha weighs {masks} masks, the bank has {len(manifest.masks)}")
    if ties.basis_digest(masks)[: len(basis)] != basis:
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
    columns = count_columns(manifest, record.granularity, hybrid=MASK in header.tensors)
    check_parts(path, header.tensors, header.record.startswith(START))
    alpha, residual = header.tensors.get(ALPHA), header.tensors.get(RESIDUAL)
    check_residual_bits(path, residual is not None, record.residual_bits)
    layers = len(manifest.backbone.masked_layers)
    try:
        masks = 0 if alpha is None else rows_of(alpha.numpy, alpha.shape, columns)
        values = 0 if residual is None else count_values(prod(residual.shape), record.residual_bits, layers)
    except NumbersError as error:
        raise FormatError(path, f"has parts of no task: {error}") from error
    return TaskOutline(
        task=record.task,
        name=record.name,
        coefficients=masks * columns,
        residual=values,
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


def seal_task(record: TaskRecord, parts: TaskParts, version: int) -> bytes:
    """The file of a task in this format version, alpha in the type it has.

    Raises:
        UsageError: a value out of its range, a part or a type that this version does not have, or no part.
    """
    tensors = parts.tensors()
    if version == 1:
        if parts.alpha is None or parts.alpha.dtype == np.uint8 or len(tensors) > 1:
            raise UsageError(
                "a bank of format version 1 stores alpha alone, and none as int8: run `impress bank upgrade` first"
            )
        if not record.fit.is_of_version_1:
            raise UsageError("a bank of format version 1 stores tasks learned by plain Adam alone")
        return seal_tensors(record, tensors)
    try:
        check_parts(Path(record.name), tensors)
        check_residual_bits(Path(record.name), RESIDUAL in tensors, record.residual_bits)
    except FormatError as error:
        raise UsageError(f"a task cannot be stored: it {error.problem}") from error
    content = seal_parts(write_text(record), tensors)
    try:
        record_of_task(Path(record.name), content, parse_header(Path(record.name), content).record)
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


def count_columns(manifest: BankManifest, granularity: int, *, hybrid: bool) -> int:
    """Columns of an alpha of this granularity; of a hybrid task it has none for the last layer."""
    layers = manifest.backbone.masked_layers
    return sum(alpha_columns(layers[:-1] if hybrid else layers, granularity))


def most_bytes(manifest: BankManifest) -> int:
    """Bytes of the largest task file: a float32 for each output channel and mask, header."""
    channels = sum(layer.shape[0] for layer in manifest.backbone.masked_layers)
    return min(MAX_TASK_BYTES, MAX_HEADER_BYTES + 4 * channels * len(manifest.masks))


def _record(path: Path, content: bytes, text: bytes, manifest: BankManifest) -> TaskRecord:
    check_file_version(path, 2 if text.startswith(START) else 1, manifest)
    return record_of_task(path, content, text)
