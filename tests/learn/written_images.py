"""Image files that Pillow reads and cannot write: 16 bits in colours, with a sign, in either order of bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
_ORIENTATION, _EXTRA_SAMPLES = 274, 338
_SHORT, _LONG = 3, 4
_SIZES, _LETTERS = {_SHORT: 2, _LONG: 4}, {_SHORT: "H", _LONG: "I"}
_STORED, _DEFLATE = 1, 8


def png(values: npt.NDArray[Any], transparent: Sequence[int] | None = None) -> bytes:
    """A PNG of uint8 or uint16 values (H, W) or (H, W, C).

    Args:
        transparent: the value, or the three of a colour, that is not seen.
    """
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    rows = values.reshape(height, -1).astype(values.dtype.newbyteorder(">"))
    kind = struct.pack(">IIBBBBB", width, height, 8 * values.dtype.itemsize, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [_chunk(b"IHDR", kind)]
    if transparent is not None:
        chunks.append(_chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    chunks += [_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(
    values: npt.NDArray[Any],
    kind: int = UNSIGNED,
    *,
    order: Literal["<", ">"] = "<",
    photometric: int | None = None,
    orientation: int = 1,
    deflated: bool = False,
) -> bytes:
    """A TIFF of values (H, W) or (H, W, C) of any type, in one strip."""
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflated else data
    shown = photometric if photometric is not None else BLACK_IS_ZERO if channels == 1 else RGB
    fields: dict[int, tuple[int, list[int]]] = {
        256: (_LONG, [width]),
        257: (_LONG, [height]),
        258: (_SHORT, [8 * values.dtype.itemsize] * channels),
        259: (_SHORT, [_DEFLATE if deflated else _STORED]),
        262: (_SHORT, [shown]),
        273: (_LONG, [0]),
        _ORIENTATION: (_SHORT, [orientation]),
        277: (_SHORT, [channels]),
        278: (_LONG, [height]),
        279: (_LONG, [len(data)]),
        339: (_SHORT, [kind] * channels),
    }
    if channels == 4:
        fields[_EXTRA_SAMPLES] = (_SHORT, [2])
    after = 8 + 2 + 12 * len(fields) + 4
    places = {}
    for tag, (size, numbers) in sorted(fields.items()):
        if len(numbers) * _SIZES[size] > 4:
            places[tag] = after
            after += len(numbers) * _SIZES[size]
    fields[273] = (_LONG, [after])
    head = [(b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(fields))]
    suffix = []
    for tag, (size, numbers) in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(numbers)}{_LETTERS[size]}", *numbers)
        if tag in places:
            suffix.append(packed)
            packed = struct.pack(f"{order}I", places[tag])
        head.append(struct.pack(f"{order}HHI", tag, size, len(numbers)) + packed.ljust(4, b"\0"))
    return b"".join([*head, struct.pack(f"{order}I", 0), *suffix, data])


def pgm(values: npt.NDArray[np.uint16], most: int) -> bytes:
    """A PGM of two bytes a value that says which is white."""
    return b"P5 %d %d %d\n" % (values.shape[1], values.shape[0], most) + values.astype(">u2").tobytes()


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
