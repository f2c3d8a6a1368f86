"""How the numbers of a part are stored: float32, float16, or int8 with one scale a column (docs/format.md, Numbers).

A matrix of rows and columns is a tensor of type F32 or F16 and that shape; as int8 it is a row of bytes (U8): the
values in C order, then for each column its scale as a little-endian float16. A number is its value times the scale of
its column.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

NumberType = Literal["float32", "float16", "int8"]
FloatArray = npt.NDArray[np.float32]
StoredArray = npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.uint8]

_MOST = 127
_TYPES: dict[np.dtype[np.generic], NumberType] = {
    np.dtype(np.float32): "float32",
    np.dtype(np.float16): "float16",
    np.dtype(np.uint8): "int8",
}


class NumbersError(Exception):
    """Stored numbers that are not as docs/format.md says."""


def store(numbers: FloatArray, kind: NumberType) -> StoredArray:
    """A matrix (rows, columns) as it is stored.

    Raises:
        OverflowError: a number is too large for this type, or is none.
    """
    if kind == "int8":
        stored = _quantise(numbers)
    else:
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(numbers, dtype=np.dtype(kind).newbyteorder("<"))
    try:
        restore(stored, numbers.shape[1])
    except NumbersError as error:
        raise OverflowError(f"too large for {kind}") from error
    return stored


def restore(stored: npt.NDArray[np.generic], columns: int) -> FloatArray:
    """The matrix, float32 (rows, columns), of stored numbers.

    Raises:
        NumbersError: of another type or shape, without rows, or with a value that no writer stores.
    """
    numbers: FloatArray = restore_all(stored[np.newaxis], columns)[0]
    return numbers


def restore_all(stored: npt.NDArray[np.generic], columns: int) -> FloatArray:
    """Many matrices at once, float32 (N, rows, columns), of stored numbers one after the other (N, ...).

    Raises:
        NumbersError: as restore.
    """
    rows = rows_of(stored.dtype, stored.shape[1:], columns)
    if stored.dtype == np.uint8:
        values = stored[:, : rows * columns].view(np.int8).reshape(-1, rows, columns)
        if values.min() < -_MOST:
            raise NumbersError("holds -128, which no writer stores")
        return values * read_scales(stored[:, rows * columns :])[:, np.newaxis]
    numbers = stored.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise NumbersError("holds NaN or infinite values")
    return numbers


def check_row_of_bytes(stored: npt.NDArray[np.generic]) -> None:
    """Refuse stored parts (N, ...) that are no rows of bytes.

    Raises:
        NumbersError: of another type or shape.
    """
    if stored.dtype != np.uint8 or stored.ndim != 2:
        raise NumbersError(f"is {stored.dtype} {stored.shape[1:]}, expected a row of bytes")


def read_scales(stored: npt.NDArray[np.generic]) -> FloatArray:
    """Scales, float32 (..., n), of the bytes (..., 2 n) of little-endian float16.

    Raises:
        NumbersError: one that no writer stores.
    """
    scales: FloatArray = np.ascontiguousarray(stored).view("<f2").astype(np.float32)
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise NumbersError("holds a scale that is negative, NaN or infinite")
    return scales


def rows_of(dtype: np.dtype[np.generic], shape: tuple[int, ...], columns: int) -> int:
    """Rows of the matrix that is stored in this type and shape.

    Raises:
        NumbersError: no matrix of this many columns is stored so.
    """
    if dtype == np.uint8 and len(shape) == 1 and shape[0] % columns == 0 and shape[0] // columns > 2:
        return shape[0] // columns - 2  # two bytes of each column are its scale
    if dtype in (np.float32, np.float16) and len(shape) == 2 and shape[1] == columns and shape[0] >= 1:
        return shape[0]
    raise NumbersError(
        f"is {dtype} {shape}, expected float32 or float16 (masks, {columns}), or bytes of {columns} columns"
    )


def type_of(stored: npt.NDArray[np.generic]) -> NumberType:
    """The type numbers are stored in."""
    return _TYPES[stored.dtype]


def _quantise(numbers: FloatArray) -> npt.NDArray[np.uint8]:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        scales = (np.abs(numbers).max(0, initial=0.0) / np.float32(_MOST)).astype("<f2")
        ratio = np.where(scales > 0, numbers / scales.astype(np.float32), 0.0)
        values = np.clip(np.nan_to_num(np.rint(ratio)), -_MOST, _MOST).astype(np.int8)
    return np.frombuffer(values.tobytes() + scales.tobytes(), dtype=np.uint8)
