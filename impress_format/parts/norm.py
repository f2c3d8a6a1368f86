"""Norm: how a task moves scale and shift of the network's norm layers (docs/format.md, Norm).

    scale_c = scale_c of the network + u_c,      shift_c = shift_c of the network + v_c

of the last L norm layers, in the order of the network: for each first its u, then its v. A value of b bits is one of
2^b levels, symmetric about 0, in units of the scale that its row of values has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt

from impress_format.parts.codes import check_padding, levels_of, pack_codes, unpack_codes
from impress_format.parts.numbers import FloatArray, NumbersError, check_row_of_bytes, read_scales
from impress_format.parts.part import Array, BankIdentity, Beside, Part, Tensor
from impress_format.records.fields import NumberOf, Record

NormBits = Literal[0, 4, 8]
_ROW = 2
"""Bytes of a row beside its values: its scale."""


class NormSettings(Record, frozen=True, omit_defaults=True):
    """`bits` are what a value takes, 0 for a task without this part; `layers` is L."""

    bits: NormBits = 0
    layers: NumberOf = 0


@dataclass(frozen=True, eq=False, slots=True)
class StoredNorm:
    """What is stored, as it is read.

    Attributes:
        levels: float32 (values,), those of all rows one after the other, in units of their scales.
        scales: float32 (2 L,), of the rows.
    """

    levels: FloatArray
    scales: FloatArray

    def rows(self, sizes: tuple[int, ...]) -> FloatArray:
        """The values, float32 (values,), of rows of these sizes.

        Raises:
            NumbersError: they are not so many.
        """
        if len(sizes) != len(self.scales) or sum(sizes) != len(self.levels):
            raise NumbersError(
                f"has {len(self.levels):,} values in {len(self.scales):,} rows, the network's norm layers "
                f"{sum(sizes):,} in {len(sizes):,}"
            )
        values: FloatArray = self.levels * np.repeat(self.scales, sizes)
        return values


def count_norm_values(stored: int, settings: NormSettings) -> int:
    """Values in so many bytes.

    Raises:
        NumbersError: no part is stored so.
    """
    rows = 2 * settings.layers
    count = (stored - _ROW * rows) * 8 // max(settings.bits, 1)
    if count < rows or norm_bytes(count, settings) != stored:
        raise NumbersError(f"has {stored} bytes, which are no {rows} rows of values of {settings.bits} bits")
    return count


def norm_bytes(count: int, settings: NormSettings) -> int:
    """Bytes of so many values; those of the values are rounded up to whole ones."""
    return -(-count * settings.bits // 8) + 2 * _ROW * settings.layers


def store_norm(codes: npt.NDArray[np.uint8], scales: npt.NDArray[np.float16], bits: int) -> npt.NDArray[np.uint8]:
    """The bytes of `codes` 0 ... 2^bits - 1 (values,) and of `scales` (2 L,)."""
    return np.frombuffer(pack_codes(codes, bits).tobytes() + scales.astype("<f2").tobytes(), dtype=np.uint8)


def check_norms(stored: Array, settings: NormSettings) -> None:
    """Refuse stored parts (N, bytes) that are none.

    Raises:
        NumbersError: of another type or size, with a scale that no writer stores, or padding bits set.
    """
    check_row_of_bytes(stored)
    count, scales = count_norm_values(stored.shape[1], settings), 2 * _ROW * settings.layers
    read_scales(stored[:, -scales:])
    check_padding(stored[:, :-scales], count * settings.bits)


def restore_norm(stored: Array, settings: NormSettings) -> StoredNorm:
    """What is stored in a row of bytes.

    Raises:
        NumbersError: as check_norms.
    """
    check_norms(stored[np.newaxis], settings)
    count, scales = count_norm_values(len(stored), settings), 2 * _ROW * settings.layers
    codes = unpack_codes(np.ascontiguousarray(stored[:-scales]).view(np.uint8), count, settings.bits)
    return StoredNorm(levels_of(codes, settings.bits), read_scales(stored[-scales:]))


def _facts(tensor: Tensor | None, settings: NormSettings, _: Beside) -> Mapping[str, int]:
    return {"norm": 0 if tensor is None else count_norm_values(prod(tensor.shape), settings)}


def _check_settings(settings: NormSettings, _: Beside, present: bool) -> None:
    if (settings.layers > 0) != present:
        expected = "1 or more" if present else "none without norm"
        raise NumbersError(f"says that its norm is of the last {settings.layers:,} norm layers, expected {expected}")


def _check(stored: Array, settings: NormSettings, _: Beside, __: BankIdentity) -> None:
    check_norms(stored, settings)


def _restore(stored: Array, settings: NormSettings, _: Beside, __: BankIdentity) -> StoredNorm:
    return restore_norm(stored, settings)


NORM: Part[NormSettings, StoredNorm] = Part(
    name="norm",
    letter="n",
    kind="weights",
    restore=_restore,
    check=_check,
    facts=_facts,
    bits=lambda settings: settings.bits,
    check_settings=_check_settings,
)
