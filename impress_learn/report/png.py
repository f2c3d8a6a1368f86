"""Palette PNG (ISO/IEC 15948) by zlib: one byte a pixel, the same bytes for the same pixels."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def palette_png(pixels: npt.NDArray[np.uint8], palette: Sequence[Colour]) -> bytes:
    """A PNG file of indexed colours, 8 bits a pixel.

    Args:
        pixels: numbers of colours, uint8 (height, width), neither side 0.
        palette: 1 to 256 colours, red, green and blue 0 to 255; each number in `pixels` has one.

    Raises:
        ValueError: another shape, or a pixel of no colour.
    """
    if pixels.ndim != 2 or 0 in pixels.shape or not 1 <= len(palette) <= 256 or int(pixels.max()) >= len(palette):
        raise ValueError(f"expected pixels (height, width) below {len(palette)} colours, found {pixels.shape}")
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # each row begins with its filter, 0 for none
    rows[:, 1:] = pixels
    chunks = (
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        _chunk(b"PLTE", bytes(value for colour in palette for value in colour)),
        _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
        _chunk(b"IEND", b""),
    )
    return _SIGNATURE + b"".join(chunks)


def data_uri(png: bytes) -> str:
    """The file as an address that a page holds in itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def to_levels(values: npt.NDArray[np.floating], low: float, high: float, levels: int) -> npt.NDArray[np.uint8]:
    """Numbers as whole steps 0 to levels - 1, from `low` to `high`; what lies beyond is at the end, NaN is 0.

    Returns:
        uint8, of the shape of `values`.
    """
    span = high - low
    share = np.zeros(values.shape) if span <= 0 else (np.nan_to_num(values, nan=low) - low) / span
    return np.clip(np.rint(share * (levels - 1)), 0, levels - 1).astype(np.uint8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
