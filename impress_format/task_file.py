"""tasks/NAME.safetensors: one task, its coefficients over the bank's masks (docs/format.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from impress_format.container import read_outline, read_record, seal_tensors, unseal_tensors
from impress_format.errors import FormatError, UsageError
from impress_format.limits import MAX_HEADER_BYTES, MAX_TASK_BYTES
from impress_format.records import TASK_NAME, BankManifest, TaskRecord, alpha_columns

FloatArray = npt.NDArray[np.float32]
AlphaArray = npt.NDArray[np.float32] | npt.NDArray[np.float16]
AlphaType = Literal["float32", "float16"]
_ALPHA_TYPES = (np.dtype(np.float32), np.dtype(np.float16))
_NAME = re.compile(TASK_NAME, re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOutline:
    """One stored task as a list shows it: its record, the masks it weighs, its coefficients, bytes on disk."""

    record: TaskRecord
    masks: int
    coefficients: int
    bytes: int


def read_task(
    path: Path, name: str, manifest: BankManifest, basis_digest: Callable[[int], str]
) -> tuple[TaskRecord, npt.NDArray[np.generic]]:
    """A task's record and its alpha (K, columns) as it is stored, both checked.

    Args:
        basis_digest: number of masks -> digest of the bank's first ones.

    Raises:
        FormatError: the file is damaged, or belongs to another basis.
    """
    record, tensors = unseal_tensors(path, TaskRecord, _most_bytes(manifest))
    if record.name != name:
        raise FormatError(path, f"holds task {record.name!r}, its file name says {name!r}")
    if set(tensors) != {"alpha"}:
        raise FormatError(path, f"holds {sorted(tensors)}, expected one tensor, alpha")
    alpha = tensors["alpha"]
    columns = sum(alpha_columns(manifest.backbone.masked_layers, record.granularity))
    planned = len(manifest.masks)
    if alpha.dtype not in _ALPHA_TYPES or alpha.ndim != 2 or alpha.shape[1] != columns:
        raise FormatError(path, f"alpha is {alpha.dtype} {alpha.shape}, expected float32 or float16 (masks, {columns})")
    if not 1 <= len(alpha) <= planned:
        raise FormatError(path, f"alpha weighs {len(alpha)} masks, the bank has {planned}")
    if not np.isfinite(alpha.astype(np.float32)).all():
        raise FormatError(path, "alpha holds NaN or infinite values")
    if record.basis != basis_digest(len(alpha)):
        raise FormatError(path, "was learned over another basis: it belongs to another bank")
    return record, alpha


def read_task_record(path: Path, manifest: BankManifest) -> TaskRecord:
    """Only the header of a task file (its checksum is checked)."""
    return read_record(path, TaskRecord, _most_bytes(manifest))


def outline_task(path: Path, manifest: BankManifest) -> TaskOutline:
    """What a list of tasks shows of one, from one reading of its file; `read_task` checks all there is to check.

    Raises:
        FormatError: the file is missing or damaged.
    """
    record, shapes, size = read_outline(path, TaskRecord, _most_bytes(manifest))
    if len(shape := shapes.get("alpha", ())) != 2:
        raise FormatError(path, f"holds {sorted(shapes)}, expected alpha of two axes")
    return TaskOutline(record=record, masks=shape[0], coefficients=shape[0] * shape[1], bytes=size)


def seal_task(record: TaskRecord, alpha: AlphaArray) -> bytes:
    """The file of a task, alpha as float16 if it is float16 and else as float32."""
    stored = alpha if alpha.dtype == np.float16 else alpha.astype(np.float32)
    return seal_tensors(record, {"alpha": np.ascontiguousarray(stored)})


def is_task_name(name: str) -> bool:
    """Whether a task may have this name: letters, digits, '.', '_', '-', at most 100, not starting with a sign."""
    return _NAME.fullmatch(name) is not None


def check_task_name(name: str) -> str:
    """The name, if a task may have it.

    Raises:
        UsageError: it may not (so that a name can never lead out of the bank's folder).
    """
    if not is_task_name(name):
        raise UsageError(f"invalid task name {name!r}: up to 100 of A-Z a-z 0-9 . _ - starting with a letter or digit")
    return name


def _most_bytes(manifest: BankManifest) -> int:
    """Bytes of the largest task file: a float32 for each output channel and mask, header."""
    channels = sum(layer.shape[0] for layer in manifest.backbone.masked_layers)
    return min(MAX_TASK_BYTES, MAX_HEADER_BYTES + 4 * channels * len(manifest.masks))
