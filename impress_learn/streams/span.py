"""Which values of images of more than 8 bits are black and white: one scale for all images of a bank."""

from __future__ import annotations

Span = tuple[float, float]
"""The value that becomes 0, and the one that becomes 255."""

_FULL = tuple(2.0**bits - 1 for bits in range(8, 33))
"""Largest values of integers of so many bits."""
_FULL_OF_FRACTIONS = (1.0, 255.0, 65535.0)
_FILLED = 0.25
"""The share of a full scale from which on images are taken to be on it: at the least 64 of 256 shades are left."""
_LOST = 0.125
"""Share of a span that values may lie beyond it, and least share that images must cover to be more than one shade."""


def choose_span(low: float, high: float, *, whole: bool) -> Span:
    """The span of training images: the full scale that their values fill, else just these values.

    12 bits in a file of 16 nearly reach 4,095, and other images of that camera a little more or less: so 0 ... 4,095.

    Args:
        low, high: the smallest and the largest value of all.
        whole: whether they are integers; else full scales are 1, 255 and 65,535.
    """
    for full in _FULL if whole else _FULL_OF_FRACTIONS:
        if low >= 0 and high <= full:
            return (0.0, full) if high - low >= _FILLED * full else _measured(low, high)
    return _measured(low, high)


def assumed_span(low: float, high: float, *, whole: bool, grey: bool) -> Span:
    """What a bank without a span takes an image, or a set of them, to be on, as releases did that kept none."""
    if not whole:
        return 0.0, 1.0
    return (0.0, 255.0) if grey and low >= 0 and high <= 255 else (0.0, 65535.0)


def goes_with(low: float, high: float, span: Span) -> bool:
    """Whether images with these smallest and largest values are told apart by a span, and not cut off by it."""
    width = span[1] - span[0]
    beyond = max(span[0] - low, high - span[1])
    return beyond <= _LOST * width and high - low >= _LOST * width


def in_words(low: float, high: float) -> str:
    """A span for people."""
    return f"{_number(low)} … {_number(high)}"


def _measured(low: float, high: float) -> Span:
    return (low, high) if low < high else (low, low + max(1.0, abs(low)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
