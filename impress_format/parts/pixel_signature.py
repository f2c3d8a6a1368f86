"""A signature in a bank with a task classifier: where the pixels of a task's images lie (docs/format.md, Signatures).

What its numbers mean, and how they are compared, is in impress_learn; here are its 64 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from impress_format.parts.numbers import FloatArray, NumbersError
from impress_format.records.fields import SIGNATURE_BYTES, TAG_BYTES

SIZES: Final = 6
FIXED_BYTES: Final = TAG_BYTES + SIZES
"""Bytes of a signature before its positions: tag and sizes."""
MOST_LEVEL: Final = 127
"""The largest position, in steps, to either side."""
_UNIT, _ZERO = 8, 128
"""A size byte b stands for 2^((b - 128) / 8)."""
_LEAST_SIZE = 1e-30


@dataclass(frozen=True, eq=False)
class StoredPixelSignatures:
    """Signatures of T tasks, over a task classifier of m positions.

    Attributes:
        exponents: float32 (T, 6), the six sizes as powers of two: number of images, root mean square of the mean's
            projections, variance of single images in a position and in a projection, and the deviations of their
            squared distances in both.
        levels: float32 (T, m), whole numbers from -127 to 127: positions in steps.
        signs: uint8 (T, 56 - m), a bit for each projection.
    """

    exponents: FloatArray
    levels: FloatArray
    signs: npt.NDArray[np.uint8]


def count_signs(positions: int) -> int:
    """Signs in a signature of so many positions."""
    return 8 * (SIGNATURE_BYTES - FIXED_BYTES - positions)


def store_pixel_signature(
    tag: bytes, sizes: Sequence[float], levels: npt.NDArray[np.int8], signs: npt.NDArray[np.bool_]
) -> bytes:
    """The bytes of one signature.

    Args:
        tag: what signatures made with this task classifier begin with.
        sizes: the six sizes, 0 or more; each becomes the nearest power of two in eighths.
        levels: (m,), -127 to 127.
        signs: (count_signs(m),), whether each projection is above 0.
    """
    packed = np.packbits(signs, bitorder="little")
    return tag + bytes(_size_byte(size) for size in sizes) + levels.tobytes() + packed.tobytes()


def restore_pixel_signatures(signatures: npt.NDArray[np.uint8], positions: int) -> StoredPixelSignatures:
    """What T signatures (T, 64) say, over a task classifier of so many positions."""
    start = FIXED_BYTES + positions
    sizes = signatures[:, TAG_BYTES:FIXED_BYTES].astype(np.float32)
    return StoredPixelSignatures(
        exponents=(sizes - np.float32(_ZERO)) / np.float32(_UNIT),
        levels=_levels(signatures, positions).astype(np.float32),
        signs=np.ascontiguousarray(signatures[:, start:]),
    )


def check_pixel_signatures(signatures: npt.NDArray[np.uint8], positions: int) -> None:
    """Refuse signatures (T, 64) that no writer stores.

    Raises:
        NumbersError: one is made of fewer than one image, or a position is -128.
    """
    if (signatures[:, TAG_BYTES] < _ZERO).any():
        raise NumbersError("says that it is made of fewer than one image")
    if (_levels(signatures, positions) < -MOST_LEVEL).any():
        raise NumbersError(f"holds a position of -128, expected -{MOST_LEVEL} to {MOST_LEVEL}")


def _levels(signatures: npt.NDArray[np.uint8], positions: int) -> npt.NDArray[np.int8]:
    """Positions in steps, (T, m)."""
    return np.ascontiguousarray(signatures[:, FIXED_BYTES : FIXED_BYTES + positions]).view(np.int8)


def _size_byte(size: float) -> int:
    return min(max(round(_UNIT * math.log2(max(size, _LEAST_SIZE))) + _ZERO, 0), 255)
