"""A vote: a byte for each mask, in files of their own and in packs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_bank
from hypothesis import given
from hypothesis import strategies as st

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.errors import FormatError, UsageError
from impress_format.operations.pack import pack_tasks
from impress_format.operations.task_groups import task_groups
from impress_format.parts.numbers import NumbersError
from impress_format.parts.own_mask import store_own_mask
from impress_format.parts.table import stored_parts
from impress_format.parts.vote import VOTE, check_votes, restore_vote, store_vote

SHARES = np.array([0.25, 0.75], dtype=np.float32)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """A bank with a task in which its first two masks vote."""
    bank = small_bank.make(tmp_path / "a.impress")
    bank.write_task(small_bank.task_record(bank, "own", "rotated-digits/7"), stored_parts(vote=store_vote(SHARES)))
    return bank


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40).filter(any))
def test_shares_come_back_within_half_a_step_of_the_largest(given: list[float]) -> None:
    shares = np.array(given, dtype=np.float64)
    stored = store_vote(shares)
    assert stored.dtype == np.uint8
    assert stored.max() == 255
    restored = restore_vote(stored)
    assert restored.sum() == pytest.approx(1, abs=1e-6)
    assert np.abs(restored / restored.max() - shares / shares.max()).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(store_vote(restored), stored), "what was read is stored as it was"


@pytest.mark.parametrize("wrong", [[0.0, 0.0], [0.5, -0.1], [np.nan, 1.0], [np.inf, 1.0]])
def test_what_is_no_share_is_not_stored(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="shares are 0 or more"):
        store_vote(np.array(wrong))


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (np.array([1, 2], dtype=np.uint8), "no share of 255"),
        (np.array([0, 0], dtype=np.uint8), "no share of 255"),
        (np.array([[255], [1]], dtype=np.uint8), "expected a byte for each mask"),
        (np.array([1, 0], dtype=np.float16), "float16"),
    ],
)
def test_what_is_no_vote_is_refused(stored: np.ndarray, words: str) -> None:
    with pytest.raises(NumbersError, match=words):
        check_votes(stored[np.newaxis])


@pytest.mark.parametrize("packed", [False, True])
def test_it_is_read_from_a_file_of_its_own_and_from_a_pack(bank: Bank, packed: bool) -> None:
    if packed:
        pack_tasks(bank)
    opened = open_bank(bank.path)
    assert small_bank.part(VOTE, opened.read_stored("own")) == pytest.approx(SHARES, abs=0.002)
    facts = {one.name: (one.facts["coefficients"], one.facts["shares"]) for one in opened.summarise_tasks()}
    assert facts == {"one": (4, 0), "own": (0, 2), "two": (4, 0)}
    assert {group.summaries[0].name: group.only for group in task_groups(opened)}["own"] == "vote"
    assert verify_bank(bank.path).ok


def test_the_bytes_are_these(bank: Bank) -> None:
    """The part is letter, length and the shares in parts of 255 of the largest (docs/format.md, Vote)."""
    content = (bank.path / "tasks" / "own.safetensors").read_bytes()
    assert content.endswith(b"\nv2\n" + bytes([85, 255]))


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_vote_is_found(bank: Bank, packed: bool) -> None:
    bank.write_task(
        small_bank.task_record(bank, "bad", "rotated-digits/8"), stored_parts(vote=np.array([1, 2], dtype=np.uint8))
    )
    if packed:
        pack_tasks(bank)
    with pytest.raises(FormatError, match="no share of 255"):
        open_bank(bank.path).read_stored("bad")
    assert not verify_bank(bank.path).ok


@pytest.mark.parametrize(
    "others",
    [{"alpha": small_bank.ALPHA}, {"mask": store_own_mask(np.ones(small_bank.LAYERS[-1].shape, dtype=np.bool_))}],
)
def test_a_vote_stands_alone(bank: Bank, others: dict[str, np.ndarray]) -> None:
    record = small_bank.task_record(bank, "bad", "rotated-digits/8")
    with pytest.raises(UsageError, match="beside a vote there is no other part"):
        bank.write_task(record, stored_parts(vote=store_vote(SHARES), **others))


def test_a_vote_of_other_masks_is_refused(bank: Bank, tmp_path: Path) -> None:
    other = small_bank.make(tmp_path / "b.impress", seed=1)
    content = (bank.path / "tasks" / "own.safetensors").read_bytes()
    (other.path / "tasks" / "own.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match="another basis"):
        open_bank(other.path).read_stored("own")
