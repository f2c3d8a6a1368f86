"""Elias-Fano: positions of ones in two bits and a logarithm each, in a form that a few array operations read.

Of each position the lowest bits stand as they are; the rest, which never falls, in unary: for the j-th one at position
p the bit (p >> bits) + j is set. So whoever finds the set bits of the unary part has the positions (Elias 1974, Fano
1971).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class EliasFano:
    """Positions as they are coded, bits from the lowest of each byte on.

    Attributes:
        ones: how many positions there are.
        bits: the lowest of each, that `low` has; one or more.
        low: uint8.
        unary: uint8.
    """

    ones: int
    bits: int
    low: npt.NDArray[np.uint8]
    unary: npt.NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.low) + len(self.unary)


def elias_fano(positions: npt.NDArray[np.integer], end: int) -> EliasFano:
    """Code positions.

    Args:
        positions: rising, each below `end`; one or more.
    """
    ones = len(positions)
    bits = max(1, (end // ones).bit_length() - 1)
    high = (positions >> bits) + np.arange(ones)
    unary = np.zeros(int(high[-1]) + 1, dtype=np.bool_)
    unary[high] = True
    low = positions[:, np.newaxis] >> np.arange(bits) & 1
    return EliasFano(
        ones,
        bits,
        np.packbits(low.reshape(-1).astype(np.bool_), bitorder="little"),
        np.packbits(unary, bitorder="little"),
    )
