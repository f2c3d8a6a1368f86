"""A mask and its bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from impress_format.container.codec import CodecError, decode_mask, encode_mask, entropy_bytes, pack_bits

MASKS = arrays(np.bool_, array_shapes(min_dims=1, max_dims=4, max_side=9))
MASK = np.random.default_rng(0).random((9, 11)) < 0.3


@given(MASKS)
def test_a_mask_survives_the_round_trip(mask: np.ndarray) -> None:
    assert np.array_equal(decode_mask(encode_mask(mask), mask.shape, int(mask.sum()))[0], mask)


@given(MASKS)
def test_the_first_weight_is_the_lowest_bit_and_c_order_counts(mask: np.ndarray) -> None:
    number = sum(1 << i for i, bit in enumerate(np.asfortranarray(mask).flatten(order="C")) if bit)
    assert pack_bits(np.asfortranarray(mask)) == number.to_bytes(math.ceil(mask.size / 8), "little")


@pytest.mark.parametrize("cut", range(len(encode_mask(MASK))))
def test_a_frame_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(CodecError):
        decode_mask(encode_mask(MASK)[:cut], MASK.shape, int(MASK.sum()))


def test_bytes_after_the_frame_are_refused() -> None:
    for tail in (b"\0", encode_mask(MASK)):
        with pytest.raises(CodecError, match="follow"):
            decode_mask(encode_mask(MASK) + tail, MASK.shape, int(MASK.sum()))


def test_a_frame_that_declares_another_size_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 26))
    assert len(bomb) < 1 << 14
    with pytest.raises(CodecError, match="declares 67108864"):
        decode_mask(bomb, MASK.shape, 0)


def test_a_frame_that_declares_no_size_is_refused() -> None:
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(pack_bits(MASK))
    with pytest.raises(CodecError):
        decode_mask(silent, MASK.shape, int(MASK.sum()))


def plain_frame(mask: np.ndarray, classes: bytes | None = None) -> bytes:
    """The frame of a mask whose rows and columns are all of class 0, or of the classes given."""
    rows, columns = mask.shape
    content = (bytes(rows + columns) if classes is None else classes) + pack_bits(mask)
    return zstandard.ZstdCompressor().compress(content)


def test_without_classes_the_bits_stand_in_c_order() -> None:
    assert np.array_equal(decode_mask(plain_frame(MASK), MASK.shape, int(MASK.sum()))[0], MASK)


def test_rectangles_come_in_falling_order_of_density() -> None:
    """Two rows and three columns by hand: row classes (0, 1), column classes (2, 0, 2)."""
    bits = np.array([[1, 0, 1, 0, 0, 1]], dtype=np.bool_)
    classes = np.array([0, 1, 2, 0, 2], dtype=np.int8).tobytes()
    frame = zstandard.ZstdCompressor().compress(classes + pack_bits(bits))
    # sum 3: row 1, columns 0 and 2; sum 2: row 0, columns 0 and 2; sum 1: row 1, column 1; sum 0: row 0, column 1
    assert decode_mask(frame, (2, 3), 3)[0].astype(int).tolist() == [[1, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("density", [0.1, 0.3])
def test_uneven_rows_and_columns_take_less_than_independent_bits(density: float) -> None:
    generator = np.random.default_rng(1)
    rows, columns = generator.exponential(size=(300, 1)), generator.exponential(size=(1, 784))
    mask = generator.random((300, 784)) < density * rows * columns
    frame = encode_mask(mask)
    assert len(frame) < 0.95 * entropy_bytes(mask.size, int(mask.sum()))
    assert len(frame) < 0.9 * len(zstandard.ZstdCompressor(level=19).compress(pack_bits(mask)))
    assert np.array_equal(decode_mask(frame, mask.shape, int(mask.sum()))[0], mask)


def test_even_bits_cost_no_more_than_they_would_plain() -> None:
    mask = np.random.default_rng(2).random((100, 200)) < 0.1
    plain = zstandard.ZstdCompressor(level=19).compress(pack_bits(mask))
    assert len(encode_mask(mask)) <= len(plain) + 32


@pytest.mark.parametrize("value", [-128, -61, 61, 127])
def test_a_class_out_of_range_is_refused(value: int) -> None:
    classes = np.zeros(20, dtype=np.int8)
    classes[7] = value
    with pytest.raises(CodecError, match="class"):
        decode_mask(plain_frame(MASK, classes.tobytes()), MASK.shape, int(MASK.sum()))


def test_set_padding_bits_are_refused() -> None:
    packed = bytearray(bytes(20) + pack_bits(MASK))
    packed[-1] |= 0x80
    with pytest.raises(CodecError, match="padding"):
        decode_mask(zstandard.ZstdCompressor().compress(bytes(packed)), MASK.shape, int(MASK.sum()))


def test_another_number_of_ones_is_refused() -> None:
    with pytest.raises(CodecError, match="ones"):
        decode_mask(encode_mask(MASK), MASK.shape, int(MASK.sum()) + 1)


@settings(max_examples=500)
@given(st.binary(max_size=80))
def test_random_bytes_give_the_codecs_own_error(frame: bytes) -> None:
    with pytest.raises(CodecError):
        decode_mask(frame, MASK.shape, 10_000)


@pytest.mark.parametrize(
    ("size", "ones", "expected"), [(266_200, 26_620, 15_605.83), (8, 4, 1.0), (1000, 0, 0.0), (1000, 1000, 0.0)]
)
def test_entropy_is_that_of_independent_bits(size: int, ones: int, expected: float) -> None:
    assert entropy_bytes(size, ones) == pytest.approx(expected, rel=1e-6)
