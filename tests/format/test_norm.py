"""Scale and shift of norm layers: what comes back, what it costs, and what is refused (docs/format.md, Norm)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
from hypothesis import given
from hypothesis import strategies as st

from impress_format import Bank, open_bank, verify_bank
from impress_format.errors import FormatError, UsageError
from impress_format.operations.pack import pack_tasks
from impress_format.parts.norm import (
    NORM,
    NormBits,
    NormSettings,
    count_norm_values,
    norm_bytes,
    restore_norm,
    store_norm,
)
from impress_format.parts.numbers import NumbersError
from impress_format.parts.table import stored_parts
from impress_format.tasks.record import TaskRecord

SIZES = (3, 3, 5, 5)
"""Two norm layers: of three channels and of five, scale and shift of each."""
CODES = (np.arange(16) * 5 % 16).astype(np.uint8)
SCALES = np.array([0.5, 0.25, 0.0, 2.0], dtype=np.float16)
STORED = store_norm(CODES, SCALES, 4)


def record(bank: Bank, name: str = "moved", bits: NormBits = 4, layers: int = 2) -> TaskRecord:
    made = small_bank.task_record(bank, name, f"rotated-digits/{len(name)}")
    norm = NormSettings(bits=bits, layers=layers)
    return msgspec.structs.replace(made, settings=msgspec.structs.replace(made.settings, norm=norm))


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """A bank with a task of alpha and norm."""
    bank = small_bank.make(tmp_path / "a.impress")
    bank.write_task(record(bank), stored_parts(alpha=small_bank.ALPHA, norm=STORED))
    return bank


@given(st.data(), st.sampled_from([4, 8]), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_values_come_back_as_levels_times_the_scales_of_their_rows(
    data: st.DataObject, bits: NormBits, channels: list[int]
) -> None:
    sizes = tuple(size for one in channels for size in (one, one))
    count = sum(sizes)
    codes = np.array(data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=count, max_size=count)), np.uint8)
    some = st.floats(0, 100, width=16)
    scales = np.array(data.draw(st.lists(some, min_size=len(sizes), max_size=len(sizes))), np.float16)
    settings = NormSettings(bits=bits, layers=len(channels))
    stored = store_norm(codes, scales, bits)
    assert len(stored) == norm_bytes(count, settings)
    assert count_norm_values(len(stored), settings) in (count, count + 1)  # of four bits, the last byte may be half
    if count_norm_values(len(stored), settings) == count:
        levels = [2 * int(code) - (2**bits - 1) for code in codes]
        each = [float(scale) for scale, size in zip(scales, sizes, strict=True) for _ in range(size)]
        expected = np.array([level * scale for level, scale in zip(levels, each, strict=True)], np.float32)
        assert np.array_equal(restore_norm(stored, settings).rows(sizes), expected)


@pytest.mark.parametrize("packed", [False, True])
def test_it_is_read_from_a_file_of_its_own_and_from_a_pack(bank: Bank, packed: bool) -> None:
    if packed:
        pack_tasks(bank)
    opened = open_bank(bank.path)
    values = small_bank.part(NORM, opened.read_stored("moved")).rows(SIZES)
    expected = (2.0 * CODES - 15) * np.repeat(SCALES.astype(np.float32), SIZES)
    assert np.array_equal(values, expected.astype(np.float32))
    assert opened.summarise_task("moved").facts["norm"] == 16
    assert {one.name: one.facts["norm"] for one in opened.summarise_tasks()} == {"one": 0, "two": 0, "moved": 16}
    assert opened.read_stored("moved").only is None
    assert verify_bank(bank.path).ok


def test_rows_of_another_network_are_refused(bank: Bank) -> None:
    stored = small_bank.part(NORM, bank.read_stored("moved"))
    for sizes in ((3, 3, 5, 6), (8, 8), (3, 3, 5)):
        with pytest.raises(NumbersError, match="the network's norm layers"):
            stored.rows(sizes)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (STORED[:-9], "no 4 rows of values of 4 bits"),
        (STORED.astype(np.float32)[None], "row of bytes"),
        (store_norm(CODES, -SCALES, 4), "negative"),
        (store_norm(CODES, SCALES * np.float16(np.nan), 4), "NaN"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_norm_is_refused(bank: Bank, stored: np.ndarray, words: str, packed: bool) -> None:
    bank.write_task(record(bank, "bad"), stored_parts(alpha=small_bank.ALPHA, norm=stored))
    if packed:
        pack_tasks(bank)
    assert [problem.error for problem in verify_bank(bank.path).problems if words in problem.error]
    with pytest.raises(FormatError, match=words):
        open_bank(bank.path).read_task("bad")


@pytest.mark.parametrize(
    ("bits", "layers", "words"),
    [(0, 2, "norm takes 0 bits"), (4, 0, "last 0 norm layers, expected 1 or more")],
)
def test_a_record_that_says_otherwise_is_not_written(bank: Bank, bits: NormBits, layers: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        bank.write_task(record(bank, "bad", bits, layers), stored_parts(alpha=small_bank.ALPHA, norm=STORED))


def test_it_is_no_task_alone_and_says_so_of_layers_without_it(bank: Bank) -> None:
    with pytest.raises(UsageError, match="expected alpha, residual, head or vote"):
        bank.write_task(record(bank, "bad"), stored_parts(norm=STORED))
    with pytest.raises(UsageError, match="expected none without norm"):
        bank.write_task(record(bank, "bad", 0, 2), stored_parts(alpha=small_bank.ALPHA))
