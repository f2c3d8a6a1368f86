"""Signatures of pixels: their 64 bytes, and which of them no writer stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_bank
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.bank_files.task_classifier import MOST_POSITIONS
from impress_format.errors import FormatError
from impress_format.operations.pack import pack_tasks
from impress_format.operations.task_groups import task_groups
from impress_format.parts.numbers import NumbersError
from impress_format.parts.pixel_signature import (
    check_pixel_signatures,
    count_signs,
    restore_pixel_signatures,
    store_pixel_signature,
)
from impress_format.parts.table import stored_parts
from impress_format.records.fields import SIGNATURE_BYTES
from impress_format.tasks.pack import open_pack
from impress_format.tasks.pack_check import check_pack

IMPOSSIBLE = [
    (2, 127, "fewer than one image"),
    (2, 0, "fewer than one image"),
    (8, 0x80, "a position of -128, expected -127 to 127"),
]
"""Byte of a signature over the one position of `some_recogniser`, what it is, what is said."""


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress", task_classifier=True)


def hostile(bank: Bank, at: int, value: int) -> bytes:
    signature = bytearray(small_bank.signature(bank))
    signature[at] = value
    return bytes(signature)


@given(
    positions=st.integers(0, MOST_POSITIONS),
    images=st.integers(1, 1 << 40),
    sizes=st.lists(st.floats(0, width=32, allow_nan=False, allow_infinity=False), min_size=5, max_size=5),
    drawn=st.data(),
)
def test_what_is_stored_comes_back_and_passes(
    positions: int, images: int, sizes: list[float], drawn: st.DataObject
) -> None:
    levels = drawn.draw(hnp.arrays(np.int8, positions, elements=st.integers(-127, 127)))
    signs = drawn.draw(hnp.arrays(np.bool_, count_signs(positions)))
    stored = store_pixel_signature(b"ab", [images, *sizes], levels, signs)
    assert len(stored) == SIGNATURE_BYTES
    row = np.frombuffer(stored, dtype=np.uint8)[np.newaxis]
    check_pixel_signatures(row, positions)
    read = restore_pixel_signatures(row, positions)
    assert read.levels[0].tolist() == levels.tolist()
    assert np.unpackbits(read.signs[0], bitorder="little").astype(np.bool_).tolist() == signs.tolist()
    # Sizes from 2^-16 to 2^15.875 come back as the nearest in eighths of a power of two; others as the first or last.
    nearest = 2.0 ** (np.arange(-128, 128) / 8)
    for size, exponent in zip([images, *sizes], read.exponents[0], strict=True):
        least = np.abs(np.log2(nearest) - np.log2(max(size, 1e-30))).min()
        assert abs(float(exponent) - np.log2(max(size, 1e-30))) <= least + 1e-9


def test_bytes_are_where_the_format_says() -> None:
    levels, signs = np.array([-127, 5], dtype=np.int8), np.zeros(count_signs(2), dtype=np.bool_)
    signs[[0, 9]] = True
    stored = store_pixel_signature(b"ab", [1, 2, 0.5, 0, 4096, 2**0.5], levels, signs)
    assert stored == b"ab" + bytes([128, 136, 120, 0, 224, 132]) + bytes([0x81, 5]) + bytes([1, 2]) + bytes(52)


@pytest.mark.parametrize(("at", "value", "problem"), IMPOSSIBLE)
def test_what_no_writer_stores_is_no_signature(bank: Bank, at: int, value: int, problem: str) -> None:
    rows = np.frombuffer(small_bank.signature(bank) + hostile(bank, at, value), dtype=np.uint8).reshape(2, -1)
    check_pixel_signatures(rows[:1], 1)
    with pytest.raises(NumbersError, match=problem):
        check_pixel_signatures(rows, 1)


@pytest.mark.parametrize(("at", "value", "problem"), IMPOSSIBLE)
@pytest.mark.parametrize("packed", [False, True])
def test_a_task_with_such_a_signature_is_refused(bank: Bank, at: int, value: int, problem: str, packed: bool) -> None:
    record = small_bank.task_record(bank, "hostile", "rotated-digits/3")
    bank.write_task(record, stored_parts(alpha=small_bank.ALPHA, signature=hostile(bank, at, value)))
    if packed:
        pack_tasks(bank)
        (path,) = (bank.path / "packs").iterdir()
        with pytest.raises(FormatError, match=problem):
            check_pack(open_pack(path), bank.manifest, bank.identity, seen={}, hidden=())
    (found,) = verify_bank(bank.path).problems
    assert problem in found.error
    with pytest.raises(FormatError, match=problem):
        open_bank(bank.path).read_task("hostile")
    with pytest.raises(FormatError, match=problem):
        list(task_groups(open_bank(bank.path)))


def test_a_mask_with_such_a_signature_is_found_by_verify(bank: Bank) -> None:
    bank.mask_path(0).unlink()
    bank.write_mask(0, small_bank.mask(0), 0.75, hostile(bank, 8, 0x80))
    (found,) = verify_bank(bank.path).problems
    assert (found.file, found.error) == (
        "masks/00000.safetensors",
        "signature holds a position of -128, expected -127 to 127",
    )
