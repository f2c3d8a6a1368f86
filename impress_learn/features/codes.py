"""Weights rounded to a few bits each, with one scale a row: of heads, signatures, and what moved a network."""

from __future__ import annotations

from torch import Tensor

from impress_format.records import ResidualBits
from impress_learn.residual import SCALES


def codes_of(weight: Tensor, bits: ResidualBits) -> tuple[Tensor, Tensor]:
    """The level of each value, counted from the lowest, and the scale of each row (C, 1)."""
    if bits == 1:
        return (weight > 0).float(), weight.abs().mean(1, keepdim=True)
    scales = SCALES[bits] * weight.square().mean(1, keepdim=True).sqrt()
    levels = 2**bits - 1
    return ((weight / scales.clamp(min=1e-12) + levels) / 2).round().clamp(0, levels), scales
