"""A mask that one task has to itself in the last layer: one bit a weight, in files of their own and in packs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_bank
from hypothesis import given, settings
from hypothesis import strategies as st

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.errors import UsageError
from impress_format.operations.pack import pack_tasks
from impress_format.operations.task_groups import task_groups
from impress_format.parts.numbers import NumbersError
from impress_format.parts.own_mask import OWN_MASK, check_own_masks, restore_own_mask, store_own_mask
from impress_format.parts.table import stored_parts
from impress_format.records.network import LayerSpec

LAST = small_bank.LAYERS[-1]
MASK = np.arange(LAST.size).reshape(LAST.shape) % 4 == 0


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """A bank with a hybrid task: alpha has one column, for the first of two layers."""
    bank = small_bank.make(tmp_path / "a.impress")
    record = small_bank.task_record(bank, "own", "rotated-digits/7")
    bank.write_task(record, stored_parts(alpha=small_bank.ALPHA[:, :1], mask=store_own_mask(MASK)))
    return bank


@settings(max_examples=60)
@given(out=st.integers(1, 9), rest=st.integers(1, 9), data=st.data())
def test_a_mask_comes_back_from_a_bit_a_weight(out: int, rest: int, data: st.DataObject) -> None:
    ones = data.draw(st.sets(st.integers(0, out * rest - 1), min_size=1))
    mask = np.isin(np.arange(out * rest), list(ones)).reshape(out, rest)
    stored = store_own_mask(mask)
    assert [place for place in range(8 * len(stored)) if stored[place // 8] >> place % 8 & 1] == sorted(ones)
    assert np.array_equal(restore_own_mask(stored, LayerSpec(name="a", shape=(out, rest))), mask)


@pytest.mark.parametrize("packed", [False, True])
def test_it_is_read_from_a_file_of_its_own_and_from_a_pack(bank: Bank, packed: bool) -> None:
    if packed:
        pack_tasks(bank)
    opened = open_bank(bank.path)
    stored = opened.read_stored("own")
    assert OWN_MASK.of(stored) is not None
    assert np.array_equal(small_bank.part(OWN_MASK, stored), MASK)
    assert np.array_equal(opened.read_task("own")[1], small_bank.ALPHA[:, :1])
    assert opened.summarise_task("own").facts["coefficients"] == 2
    assert {one.name: one.facts["coefficients"] for one in opened.summarise_tasks()} == {"one": 4, "own": 2, "two": 4}
    assert sorted((group.summaries[0].name, group.only == "alpha") for group in task_groups(opened))[:2] == [
        ("one", True),
        ("own", False),
    ]
    assert verify_bank(bank.path).ok


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (np.array([1, 0x80], dtype=np.uint8), "padding"),
        (np.array([0, 0], dtype=np.uint8), "not a single one"),
        (np.array([1], dtype=np.uint8), "expected 2 bytes for b.weight"),
        (np.array([1, 0], dtype=np.float16), "float16"),
    ],
)
def test_what_is_no_mask_is_refused(bank: Bank, stored: np.ndarray, words: str) -> None:
    with pytest.raises(NumbersError, match=words):
        check_own_masks(stored[np.newaxis], LAST)
    if stored.dtype == np.uint8:
        record = small_bank.task_record(bank, "bad", "rotated-digits/8")
        bank.write_task(record, stored_parts(alpha=small_bank.ALPHA[:, :1], mask=stored))
        assert [one.error for one in verify_bank(bank.path).problems if words in one.error]


def test_alpha_has_no_column_for_the_layer_of_the_mask(bank: Bank) -> None:
    record = small_bank.task_record(bank, "bad", "rotated-digits/8")
    bank.write_task(record, stored_parts(alpha=small_bank.ALPHA, mask=store_own_mask(MASK)))
    assert not verify_bank(bank.path).ok


def test_a_mask_alone_is_no_task(bank: Bank) -> None:
    record = small_bank.task_record(bank, "bad", "rotated-digits/8", masks=0)
    with pytest.raises(UsageError, match="expected alpha, residual"):
        bank.write_task(record, stored_parts(mask=store_own_mask(MASK)))
