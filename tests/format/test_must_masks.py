"""What docs/format.md demands of readers of masks, where no other test holds it."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from impress_format.container.codec import CodecError, decode_mask, pack_bits

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=3, max_side=7))
MASK = np.random.default_rng(0).random((9, 11)) < 0.3


def content_of(mask: np.ndarray, rows: list[int], columns: list[int]) -> bytes:
    """Classes, then the bits rectangle by rectangle, as docs/format.md says, one weight after the other."""
    matrix = mask.reshape(len(rows), len(columns))
    rectangles = sorted({(a + b, a, b) for a in rows for b in columns}, reverse=True)
    bits = [
        matrix[row, column]
        for _, a, b in rectangles
        for row in range(len(rows))
        for column in range(len(columns))
        if (rows[row], columns[column]) == (a, b)
    ]
    return np.array([*rows, *columns], dtype=np.int8).tobytes() + pack_bits(np.array(bits, dtype=np.bool_))


def frame_of(content: bytes, cuts: list[int], level: int) -> bytes:
    """A frame that declares its content size, with a block that ends at each of these places."""
    stream = zstandard.ZstdCompressor(level=level).compressobj(size=len(content))
    frame, start = b"", 0
    for cut in sorted({cut for cut in cuts if 0 < cut < len(content)}):
        frame += stream.compress(content[start:cut]) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        start = cut
    return frame + stream.compress(content[start:]) + stream.flush()


@settings(max_examples=200)
@given(mask=MASKS, cuts=st.lists(st.integers(1, 100), max_size=4), level=st.integers(1, 19), data=st.data())
def test_any_classes_and_any_blocks_give_the_same_mask(
    mask: np.ndarray, cuts: list[int], level: int, data: st.DataObject
) -> None:
    height, width = mask.shape[0], mask.size // mask.shape[0]
    classes = st.integers(-60, 60) | st.sampled_from([-60, 0, 60])
    rows = data.draw(st.lists(classes, min_size=height, max_size=height))
    columns = data.draw(st.lists(classes, min_size=width, max_size=width))
    frame = frame_of(content_of(mask, rows, columns), cuts, level)
    found, values = decode_mask(frame, mask.shape, int(mask.sum()))
    assert np.array_equal(found, mask)
    assert values == b""


def test_a_frame_of_the_right_content_that_does_not_declare_its_size_is_refused() -> None:
    content, ones = content_of(MASK, [0] * 9, [0] * 11), int(MASK.sum())
    declared, silent = (zstandard.ZstdCompressor(write_content_size=size).compress(content) for size in (True, False))
    assert np.array_equal(decode_mask(declared, MASK.shape, ones)[0], MASK)
    with pytest.raises(CodecError, match="it declares"):
        decode_mask(silent, MASK.shape, ones)
