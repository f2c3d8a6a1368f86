"""A head: what a task over pretrained weights reads its classes from (docs/format.md, Head).

    logits_c = weight_c . ((features - mean) directions)_1..D + bias_c

`mean` and `directions` are the bank's (projection.py); a task has C rows of D values of b bits, a scale and a bias
for each row. A value of b bits is one of 2^b levels, symmetric about 0, in units of its row's scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from impress_format.parts.codes import check_padding, levels_of, pack_codes, unpack_codes
from impress_format.parts.numbers import FloatArray, NumbersError, check_row_of_bytes
from impress_format.parts.part import Array, BankIdentity, Beside, Part, Tensor
from impress_format.records.fields import Record, ValueBits

_ROW = 4
"""Bytes of a row beside its values: scale and bias."""


class HeadSettings(Record, frozen=True, omit_defaults=True):
    """`bits` are what a value takes, 0 for a task without a head."""

    bits: ValueBits = 0


@dataclass(frozen=True, eq=False)
class StoredHead:
    """A head as it is read.

    Attributes:
        weight: float32 (C, D); of several of one shape (N, C, D).
        bias: float32 (C,), or (N, C).
    """

    weight: FloatArray
    bias: FloatArray


def head_bytes(classes: int, dimensions: int, bits: int) -> int:
    """Bytes of a head; those of its values are rounded up to whole ones."""
    return -(-classes * dimensions * bits // 8) + _ROW * classes


def count_dimensions(stored: int, bits: int, classes: int) -> int:
    """D of a head of so many bytes: the most that they hold.

    Raises:
        NumbersError: no head is stored so.
    """
    dimensions = _most(stored, bits, classes)
    if dimensions < 1 or head_bytes(classes, dimensions, bits) != stored:
        raise NumbersError(f"has {stored} bytes, which are no rows of {bits} bits a value for {classes} classes")
    return dimensions


def whole_dimensions(classes: int, wanted: int, bits: int) -> int:
    """The most dimensions, up to `wanted`, of a head that can be told from its bytes; 0 if there is none."""
    return next(
        (some for some in range(wanted, 0, -1) if _most(head_bytes(classes, some, bits), bits, classes) == some), 0
    )


def store_head(
    codes: npt.NDArray[np.uint8], scales: npt.NDArray[np.float16], biases: npt.NDArray[np.float16], bits: int
) -> npt.NDArray[np.uint8]:
    """The bytes of a head: `codes` 0 ... 2^bits - 1 (C, D), `scales` and `biases` (C,)."""
    packed = pack_codes(codes, bits).tobytes()
    return np.frombuffer(packed + scales.astype("<f2").tobytes() + biases.astype("<f2").tobytes(), dtype=np.uint8)


def restore_head(stored: npt.NDArray[np.generic], bits: int, classes: int, most: int) -> StoredHead:
    """The head that is stored in a row of bytes.

    Args:
        most: dimensions that the bank's projection has.

    Raises:
        NumbersError: of another type or size, or with what no writer stores.
    """
    heads = restore_heads(stored[np.newaxis], bits, classes, most)
    return StoredHead(heads.weight[0], heads.bias[0])


def restore_heads(stored: npt.NDArray[np.generic], bits: int, classes: int, most: int) -> StoredHead:
    """As restore_head, of N heads of one shape, a row of bytes each."""
    check_heads(stored, bits, classes, most)
    dimensions = count_dimensions(stored.shape[1], bits, classes)
    content = np.ascontiguousarray(stored).view(np.uint8)
    codes = unpack_codes(content[:, : -_ROW * classes], classes * dimensions, bits)
    levels = levels_of(codes, bits).reshape(len(stored), classes, dimensions)
    numbers = np.ascontiguousarray(content[:, -_ROW * classes :]).view("<f2").astype(np.float32)
    weight: FloatArray = levels * numbers[:, :classes, np.newaxis]
    return StoredHead(weight, numbers[:, classes:])


def check_heads(stored: npt.NDArray[np.generic], bits: int, classes: int, most: int) -> None:
    """Refuse stored heads (N, bytes) that are none.

    Raises:
        NumbersError: of another type or size, of more dimensions than there are, with a scale or a bias that no writer
            stores, or padding bits set.
    """
    check_row_of_bytes(stored)
    dimensions = count_dimensions(stored.shape[1], bits, classes)
    if dimensions > most:
        raise NumbersError(f"has {dimensions:,} dimensions, the bank's projection {most:,}")
    numbers = np.ascontiguousarray(stored[:, -_ROW * classes :]).view("<f2").astype(np.float32)
    if not (np.isfinite(numbers).all() and (numbers[:, :classes] >= 0).all()):
        raise NumbersError("holds a scale that is negative, or one or a bias that is NaN or infinite")
    check_padding(stored[:, : -_ROW * classes], classes * dimensions * bits)


def _most(stored: int, bits: int, classes: int) -> int:
    return (stored - _ROW * classes) * 8 // (classes * bits)


def _restore(stored: Array, settings: HeadSettings, beside: Beside, identity: BankIdentity) -> StoredHead:
    return restore_head(stored, settings.bits, beside.classes, identity.directions())


def _check(stored: Array, settings: HeadSettings, beside: Beside, identity: BankIdentity) -> None:
    check_heads(stored, settings.bits, beside.classes, identity.directions())


def _facts(tensor: Tensor | None, settings: HeadSettings, beside: Beside) -> Mapping[str, int]:
    return {"head": 0 if tensor is None else count_dimensions(prod(tensor.shape), settings.bits, beside.classes)}


HEAD: Part[HeadSettings, StoredHead] = Part(
    name="head",
    letter="h",
    kind="read-out",
    restore=_restore,
    check=_check,
    facts=_facts,
    bits=lambda settings: settings.bits,
    makes_task=True,
    excludes=frozenset({"alpha", "mask"}),
)
