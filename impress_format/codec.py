"""Supermask <-> bytes: bits of the flattened mask, least significant first, in one zstd frame a layer."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import zstandard

BoolArray = npt.NDArray[np.bool_]

_LEVEL = 19
"""Level 19 and up give the same size on trained LeNet masks within 0.2 %."""


class CodecError(ValueError):
    """Bytes that no encoder of this format writes."""


def pack_bits(mask: BoolArray) -> bytes:
    """Eight weights to a byte, least significant bit first, C order; zero bits fill the last byte."""
    return np.packbits(np.ascontiguousarray(mask).reshape(-1), bitorder="little").tobytes()


def encode_mask(mask: BoolArray) -> bytes:
    """Compress one layer's mask of any shape. Equal masks give equal bytes."""
    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(pack_bits(mask))


def decode_mask(frame: bytes, shape: tuple[int, ...], ones: int) -> BoolArray:
    """Decompress one layer's mask; nothing larger than the layer needs is ever allocated.

    Raises:
        CodecError: not exactly one frame of the expected size, padding bits set, or another count of ones.
    """
    size = math.prod(shape)
    packed = np.frombuffer(_decompress(frame, -(-size // 8)), dtype=np.uint8)
    bits = np.unpackbits(packed, bitorder="little")
    if bits[size:].any():
        raise CodecError("padding bits after the last weight are set")
    found = int(np.count_nonzero(bits))
    if found != ones:
        raise CodecError(f"expected {ones} ones, found {found}")
    return bits[:size].astype(np.bool_).reshape(shape)


def _decompress(frame: bytes, expected: int) -> bytes:
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


def entropy_bytes(size: int, ones: int) -> float:
    """H(s) * n in bytes: what independent bits of this density would take."""
    share = ones / size
    if share in (0.0, 1.0):
        return 0.0
    bits = -share * math.log2(share) - (1.0 - share) * math.log2(1.0 - share)
    return size * bits / 8.0
