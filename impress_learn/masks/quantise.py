"""The one quantiser: levels that are symmetric about 0, so many as a value's bits say, in units of a scale.

With one bit a value is its scale or the negative of that. Gradients go straight through (Bengio et al. 2013).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SCALES: dict[int, float] = {1: 0.7979, 2: 0.4979, 4: 0.1676, 8: 0.0154}
"""Half the step of the best uniform quantiser of a standard normal variable with 2^b levels (Max 1960)."""
_LEAST = 1e-12


def codes_of(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The level of each value, counted from the lowest, and the scale of each row.

    Args:
        values: (..., n), rows of values that share a scale.

    Returns:
        Codes (..., n), whole numbers 0 ... 2^bits - 1, and scales (..., 1).
    """
    if bits == 1:
        return (values > 0).float(), values.abs().mean(-1, keepdim=True)
    scales = SCALES[bits] * values.square().mean(-1, keepdim=True).sqrt()
    levels = 2**bits - 1
    return ((values / scales.clamp(min=_LEAST) + levels) / 2).round().clamp(0, levels), scales


def levels_of(codes: Tensor, bits: int) -> Tensor:
    """What codes 0 ... 2^bits - 1 stand for, in units of their scale."""
    levels: Tensor = 2 * codes - (2**bits - 1)
    return levels


def rounded(values: Tensor, bits: int) -> Tensor:
    """Values (..., n) as they will be stored, nearly; gradients go straight through."""
    codes, scales = codes_of(values.detach(), bits)
    return straight_through(values, levels_of(codes, bits) * scales)


def straight_through(values: Tensor, stored: Tensor) -> Tensor:
    """`stored`, with the gradient of `values`."""
    return values + (stored - values).detach()


def rounded_rows(values: Tensor, sizes: tuple[int, ...], bits: int) -> Tensor:
    """As rounded, of rows of these sizes one after the other (sum of sizes,)."""
    rows = [codes_of(row, bits) for row in values.detach().split(sizes)]
    return straight_through(values, torch.cat([levels_of(codes, bits) * scale for codes, scale in rows]))


def stored_rows(
    values: Tensor, sizes: tuple[int, ...], bits: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """Rows of these sizes one after the other, on the CPU, as they are stored.

    Returns:
        Codes (sum of sizes,), and the scale of each row.
    """
    rows = [codes_of(row, bits) for row in values.split(sizes)]
    codes, scales = (torch.cat(each).numpy() for each in zip(*rows, strict=True))
    return codes.astype(np.uint8), scales.astype(np.float16)
