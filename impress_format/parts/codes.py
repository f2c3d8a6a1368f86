"""Codes of few bits, one after the other in bytes: lowest bit first, zeros filling the last byte (docs/format.md)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from impress_format.parts.numbers import NumbersError


def pack_codes(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """The bytes of codes 0 ... 2^bits - 1, of any shape in C order."""
    stream = (codes.reshape(-1, 1) >> np.arange(bits, dtype=np.uint8) & 1).astype(np.uint8)
    return np.packbits(stream.reshape(-1), bitorder="little")


def unpack_codes(packed: npt.NDArray[np.uint8], count: int, bits: int) -> npt.NDArray[np.uint8]:
    """The first `count` codes, uint8 (..., count), of at least as many bytes (...,) as they take."""
    stream = np.unpackbits(packed, axis=-1, count=count * bits, bitorder="little")
    codes: npt.NDArray[np.uint8] = np.zeros((*packed.shape[:-1], count), dtype=np.uint8)
    for bit in range(bits):
        codes |= stream[..., bit::bits] << np.uint8(bit)
    return codes


def check_padding(packed: npt.NDArray[np.generic], bits: int) -> None:
    """Refuse bytes (N, n) of so many bits that have more set.

    Raises:
        NumbersError: they have.
    """
    rest = bits % 8
    if rest and (packed[:, -1].astype(np.uint8) >> rest).any():
        raise NumbersError("has padding bits set after the last value")


def levels_of(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.float32]:
    """What codes 0 ... 2^bits - 1 stand for, in units of their scale: levels two apart, symmetric about 0."""
    return 2 * codes.astype(np.float32) - np.float32(2**bits - 1)
