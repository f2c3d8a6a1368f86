"""Signed and real masks: what their ones weigh comes back, and is part of the digest that tasks are bound to."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
from hypothesis import example, given, settings
from hypothesis import strategies as st

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.container.codec import CodecError
from impress_format.errors import FormatError
from impress_format.masks.mask_values import restore_values, round_values, store_values, values_bytes
from impress_format.operations.create import write_plan
from impress_format.records.fields import MaskType
from impress_format.records.masks import MaskPlan


def typed_bank(path: Path, mask_type: MaskType) -> Bank:
    plans: tuple[MaskPlan, ...] = tuple(msgspec.structs.replace(plan, type=mask_type) for plan in small_bank.PLANS[:2])
    return write_plan(path, small_bank.manifest(plans=plans))


def weighed(mask_type: MaskType, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    masks = {}
    for name, bits in small_bank.mask(seed).items():
        values = generator.standard_normal(bits.shape).astype(np.float32) * bits
        masks[name] = np.sign(values).astype(np.int8) if mask_type == "signed" else round_values(values)
    return masks


@settings(max_examples=80)
@given(signs=st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=40).filter(any))
def test_signs_come_back_from_a_bit_a_one(signs: list[int]) -> None:
    mask = np.array(signs, dtype=np.int8)
    stored = store_values(mask, "signed")
    assert len(stored) == values_bytes("signed", int(np.count_nonzero(mask))) == -(-int(np.count_nonzero(mask)) // 8)
    restored = restore_values(mask != 0, stored, "signed")
    assert restored.dtype == np.int8
    assert np.array_equal(restored, mask)


@settings(max_examples=80)
@given(
    values=st.lists(
        st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=1, max_size=40
    ).filter(any)
)
@example([0.0010000000474974513])  # its step has few bits in float16: 126 steps were 127 of another
def test_numbers_come_back_to_half_a_step_and_none_becomes_zero(values: list[float]) -> None:
    mask = np.array(values, dtype=np.float32)
    rounded = round_values(mask)
    assert np.array_equal(rounded != 0, mask != 0)
    step = np.abs(mask).max() / 127 * 1.001
    small = np.abs(mask) < step  # these are kept from zero
    assert (np.abs(rounded - mask) <= np.where(small, step, step / 2 + 1e-6)).all()
    stored = store_values(rounded, "real")
    assert np.array_equal(restore_values(rounded != 0, stored, "real"), rounded)
    assert len(stored) == values_bytes("real", int(np.count_nonzero(mask)))


@settings(max_examples=80)
@given(values=st.lists(st.floats(-6e4, 6e4, width=32), min_size=1, max_size=40).filter(any))
def test_what_was_rounded_comes_back_however_small_it_is(values: list[float]) -> None:
    rounded = round_values(np.array(values, dtype=np.float32))
    stored = store_values(rounded, "real")
    assert np.array_equal(restore_values(rounded != 0, stored, "real"), rounded)


@pytest.mark.parametrize("mask_type", ["signed", "real"])
def test_a_bank_gives_masks_back_as_they_were_and_tasks_are_bound_to_what_they_weigh(
    tmp_path: Path, mask_type: MaskType
) -> None:
    bank, flipped = (typed_bank(tmp_path / name, mask_type) for name in ("a.impress", "b.impress"))
    for index in range(2):
        masks = weighed(mask_type, index)
        bank.write_mask(index, masks, 0.5)
        flipped.write_mask(index, {name: -mask for name, mask in masks.items()}, 0.5)
        restored = open_bank(bank.path).read_mask(index)[1]
        assert all(np.array_equal(restored[name], masks[name]) for name in masks)
    assert verify_bank(bank.path).ok
    assert bank.basis_digest(2) != flipped.basis_digest(2)


@pytest.mark.parametrize(
    ("stored", "mask_type", "words"),
    [
        (bytes([0b1000]), "signed", "padding"),
        (bytes([1, 0, 3]) + np.float16(0.5).tobytes(), "real", "outside 1 to 127"),
        (bytes([1, 0x80, 3]) + np.float16(0.5).tobytes(), "real", "outside 1 to 127"),
        (bytes([1, 2, 3]) + np.float16(0).tobytes(), "real", "not a positive number"),
        (bytes([1, 2, 3]) + np.float16(-1).tobytes(), "real", "not a positive number"),
        (bytes([1, 2, 3]) + np.float16(np.nan).tobytes(), "real", "not a positive number"),
        (bytes([1, 2, 3]) + np.float16(np.inf).tobytes(), "real", "not a positive number"),
    ],
)
def test_what_no_writer_stores_is_refused(stored: bytes, mask_type: MaskType, words: str) -> None:
    with pytest.raises(CodecError, match=words):
        restore_values(np.array([True, True, False, True]), stored, mask_type)


def test_values_of_another_type_are_not_stored(tmp_path: Path) -> None:
    binary = small_bank.make(tmp_path / "a.impress")
    binary.mask_path(0).unlink()
    with pytest.raises(FormatError, match="other values than 0 and 1"):
        binary.write_mask(0, weighed("signed", 0), None)
    signed = typed_bank(tmp_path / "b.impress", "signed")
    with pytest.raises(FormatError, match="other values than -1, 0 and 1"):
        signed.write_mask(0, weighed("real", 0), None)


def test_binary_masks_take_no_more_room_than_before(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    assert b'"type"' not in bank.manifest_path.read_bytes()
    assert bank.read_mask(0)[1]["a.weight"].dtype == np.bool_
