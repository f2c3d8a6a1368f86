"""Supermask <-> bytes: rectangles of equal expected density, one after the other, in one zstd frame a layer.

Edge-popup leaves some hidden units and inputs nearly empty and others crowded. So rows (first axis) and columns (all
others) get a class each, their log-odds of a one, rounded; the rectangles that row and column classes cut the mask
into are written in falling order of density, and zstd, which has one Huffman table a block, gets a block for each
range of densities. That takes 4 to 9 % off masks of images and 15 to 19 % off masks of permuted images and of
convolutions, against plain bits (docs/results/bytes.md), and costs no code beyond zstd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import zstandard

BoolArray = npt.NDArray[np.bool_]
_Classes = npt.NDArray[np.int8]

MAX_CLASS = 60
"""Classes lie in -60 ... 60, so that the sum of two fits a signed byte."""

_LEVEL = 19
"""Levels above 19 gave the same bytes on trained masks."""
_BLOCK = 1024
"""Fewest bytes of a zstd block: 256 to 2,048 gave the same size within 0.5 %."""


class CodecError(ValueError):
    """Bytes that no encoder of this format writes."""


def pack_bits(mask: BoolArray) -> bytes:
    """Eight weights to a byte, least significant bit first, C order; zero bits fill the last byte."""
    return np.packbits(np.ascontiguousarray(mask).reshape(-1), bitorder="little").tobytes()


def encode_mask(mask: BoolArray, values: bytes = b"") -> bytes:
    """Compress one layer's mask of any shape with at least one weight, and what its ones weigh (mask_values.py). Equal
    masks give equal bytes.
    """
    matrix = np.ascontiguousarray(mask).reshape(mask.shape[0], -1)
    plain = np.zeros(matrix.shape[0], np.int8), np.zeros(matrix.shape[1], np.int8)
    frames = [_encode(matrix, *classes, values) for classes in (_density_classes(matrix), plain)]
    return min(frames, key=len)


def decode_mask(frame: bytes, shape: tuple[int, ...], ones: int, values: int = 0) -> tuple[BoolArray, bytes]:
    """Decompress one layer's mask and the `values` bytes after it; nothing larger than these need is ever allocated.

    Raises:
        CodecError: not exactly one frame of the expected size, a class out of range, padding bits set, or another
            count of ones.
    """
    size, height = math.prod(shape), shape[0]
    width = size // height
    end = height + width + -(-size // 8)
    content = decompress(frame, end + values)
    classes = np.frombuffer(content, dtype=np.int8, count=height + width)
    if classes.min() < -MAX_CLASS or classes.max() > MAX_CLASS:
        raise CodecError(f"a class of rows or columns is outside -{MAX_CLASS} to {MAX_CLASS}")
    packed = np.frombuffer(content, dtype=np.uint8, offset=height + width, count=end - height - width)
    bits = np.unpackbits(packed, bitorder="little")
    if bits[size:].any():
        raise CodecError("padding bits after the last weight are set")
    found = int(np.count_nonzero(bits))
    if found != ones:
        raise CodecError(f"expected {ones} ones, found {found}")
    rows, columns = classes[:height], classes[height:]
    by_class = np.empty((height, width), dtype=np.bool_)
    start = 0
    for _, rectangle in _rectangles(rows, columns):
        part = by_class[rectangle]
        part[...] = bits[start : start + part.size].reshape(part.shape)
        start += part.size
    matrix = by_class[_places(rows)][:, _places(columns)]
    return matrix.reshape(shape), content[end:]


def entropy_bytes(size: int, ones: int) -> float:
    """H(s) * n in bytes: what independent bits of this density would take."""
    share = ones / size
    if share in (0.0, 1.0):
        return 0.0
    bits = -share * math.log2(share) - (1.0 - share) * math.log2(1.0 - share)
    return size * bits / 8.0


def _encode(matrix: BoolArray, rows: _Classes, columns: _Classes, values: bytes) -> bytes:
    by_class = matrix[np.argsort(rows, kind="stable")][:, np.argsort(columns, kind="stable")]
    parts, ends = [], []
    weights, density = 0, None
    for total, rectangle in _rectangles(rows, columns):
        if total != density:
            ends.append(weights // 8)
            density = total
        parts.append(by_class[rectangle].reshape(-1))
        weights += parts[-1].size
    bits = pack_bits(np.concatenate(parts))
    blocks, start = [rows.tobytes() + columns.tobytes()], 0
    for end in ends:
        if end - start >= _BLOCK:
            blocks.append(bits[start:end])
            start = end
    blocks.append(bits[start:])
    if values:
        blocks.append(values)
    return _compress(blocks)


def _density_classes(matrix: BoolArray) -> tuple[_Classes, _Classes]:
    """Class of each row and each column: its log-odds of a one less that of the whole layer, rounded."""
    height, width = matrix.shape
    typical = _log_odds(int(np.count_nonzero(matrix)), matrix.size)

    def classes(counts: npt.NDArray[np.intp], n: int) -> _Classes:
        nearest = (round(_log_odds(count, n) - typical) for count in counts.tolist())
        return np.array([max(-MAX_CLASS, min(MAX_CLASS, value)) for value in nearest], dtype=np.int8)

    return classes(np.count_nonzero(matrix, axis=1), width), classes(np.count_nonzero(matrix, axis=0), height)


def _log_odds(ones: int, n: int) -> float:
    return math.log((ones + 0.5) / (n - ones + 0.5))


def _rectangles(rows: _Classes, columns: _Classes) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """(sum of classes, place) of each rectangle of the mask whose rows and columns stand in order of their classes.

    The sum falls; among equal sums the class of rows falls.
    """
    heights, widths = _runs(rows), _runs(columns)
    pairs = sorted(((a + b, a, b) for a in heights for b in widths), reverse=True)
    for total, a, b in pairs:
        yield total, (heights[a], widths[b])


def _runs(classes: _Classes) -> dict[int, slice]:
    """Where each class stands once the classes are in order."""
    values, counts = np.unique(classes, return_counts=True)
    ends = np.cumsum(counts).tolist()
    return {
        value: slice(end - count, end) for value, end, count in zip(values.tolist(), ends, counts.tolist(), strict=True)
    }


def _places(classes: _Classes) -> npt.NDArray[np.intp]:
    """Where each row (or column) stands once the classes are in order, equal ones as they were."""
    places = np.empty(len(classes), dtype=np.intp)
    places[np.argsort(classes, kind="stable")] = np.arange(len(classes))
    return places


def _compress(blocks: list[bytes]) -> bytes:
    """One zstd frame that declares its content size, with a block (or several) for each of `blocks`."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
    stream = compressor.compressobj(size=sum(map(len, blocks)))
    frame = b"".join(stream.compress(block) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for block in blocks[:-1])
    return frame + stream.compress(blocks[-1]) + stream.flush()


def decompress(frame: bytes, expected: int) -> bytes:
    """The content of one zstd frame of `expected` bytes; nothing larger is ever allocated.

    Raises:
        CodecError: not exactly one such frame.
    """
    try:
        declared = zstandard.frame_content_size(frame)  # -1 where a frame does not say
        if declared != expected:
            raise CodecError(f"expected a zstd frame of {expected} bytes, it declares {declared}")
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        content = decompressor.decompress(frame)
    except zstandard.ZstdError as error:
        raise CodecError(f"not a whole zstd frame ({error})") from error
    if len(content) != expected or not decompressor.eof:
        raise CodecError("the zstd frame is cut short")
    if decompressor.unused_data:
        raise CodecError(f"{len(decompressor.unused_data)} bytes follow the zstd frame")
    return content
