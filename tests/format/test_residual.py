"""Residuals: packed values and a hash of places, held to docs/format.md by a plain computation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bank import alpha_type

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.errors import UsageError
from impress_format.operations.pack import pack_tasks
from impress_format.operations.task_groups import task_groups
from impress_format.parts.numbers import NumbersError
from impress_format.parts.residual import (
    RESIDUAL,
    check_residuals,
    count_values,
    hash_places,
    residual_bytes,
    restore_residual,
    split_values,
    store_residual,
)
from impress_format.parts.table import stored_parts
from impress_format.records.fields import ValueBits
from impress_format.records.network import LayerSpec

BITS: tuple[ValueBits, ...] = (1, 2, 4, 8)
LENET = tuple(
    LayerSpec(name=f"fc{number}.weight", shape=shape)
    for number, shape in enumerate([(300, 784), (100, 300), (10, 100)], start=1)
)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress", task_classifier=True)


def some_residual(bits: int, count: int = 16) -> np.ndarray:
    codes = (np.arange(count) % 2**bits).astype(np.uint8)
    return store_residual(codes, np.array([0.5, 0.25], dtype=np.float16), bits)


def add(bank: Bank, name: str, bits: ValueBits, *, alpha: bool, count: int = 16) -> None:
    record = small_bank.task_record(bank, name, f"rotated-digits/{len(name)}{bits}", masks=2 if alpha else 0)
    record = msgspec.structs.replace(record, settings=small_bank.settings(residual_bits=bits))
    signature = small_bank.signature(bank)
    bank.write_task(
        record,
        stored_parts(
            alpha=small_bank.ALPHA if alpha else None, signature=signature, residual=some_residual(bits, count)
        ),
    )


@settings(max_examples=60)
@given(bits=st.sampled_from(BITS), data=st.data())
def test_values_come_back_as_their_codes_and_scales_say(bits: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30)) * 8
    codes = np.array(data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=count, max_size=count)), dtype=np.uint8)
    scales = np.array(data.draw(st.lists(st.floats(0, 100, width=16), min_size=3, max_size=3)), dtype=np.float16)
    stored = store_residual(codes, scales, bits)
    assert len(stored) == residual_bytes(count, bits, 3)
    assert count_values(len(stored), bits, 3) == count
    layers = tuple(LayerSpec(name=f"l{index}", shape=(20, 20)) for index in range(3))
    sizes = split_values(layers, count)
    levels = [2 * int(code) - (2**bits - 1) for code in codes]
    expected = [
        level * float(scale) for level, scale in zip(levels, np.repeat(scales.astype(np.float64), sizes), strict=True)
    ]
    np.testing.assert_allclose(restore_residual(stored, bits, layers), expected, rtol=1e-6)


def test_one_bit_is_the_scale_or_its_negative() -> None:
    layers = (LayerSpec(name="a", shape=(4, 4)),)
    stored = np.frombuffer(bytes([0b0000_0101]) + np.float16(0.5).tobytes(), dtype=np.uint8)
    assert restore_residual(stored, 1, layers).tolist() == [0.5, -0.5, 0.5, -0.5, -0.5, -0.5, -0.5, -0.5]


@settings(max_examples=100)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=8),
    extra=st.integers(0, 5000),
)
def test_values_are_split_by_the_three_quarters_power_and_none_is_left_over(
    shapes: list[tuple[int, int]], extra: int
) -> None:
    layers = [LayerSpec(name=f"l{index}", shape=shape) for index, shape in enumerate(shapes)]
    sizes = split_values(layers, len(layers) + extra)
    assert sum(sizes) == len(layers) + extra
    total = sum(layer.size**0.75 for layer in layers)
    for layer, size in zip(layers, sizes, strict=True):
        assert size >= 1
        assert abs(size - 1 - extra * layer.size**0.75 / total) <= 1.01 + 2 * len(layers) * extra / total


def test_lenet_gives_most_values_to_its_first_layer() -> None:
    assert split_values(LENET, 4096) == (3329, 711, 56)


def test_a_weights_value_is_drawn_from_the_seed_and_its_place() -> None:
    layer = LayerSpec(name="fc3.weight", shape=(10, 100))
    key = hashlib.sha256(b"impress/5/residual/fc3.weight").digest()[:16]
    words = np.random.Philox(key=np.frombuffer(key, dtype="<u8")).random_raw(500).tolist()
    halves = [half for word in words for half in (word & 0xFFFFFFFF, word >> 32)]
    places = hash_places(5, layer, 37)
    assert places.tolist() == [half * 37 >> 32 for half in halves]
    assert set(places.tolist()) == set(range(37))


@pytest.mark.parametrize("packed", [False, True])
def test_residuals_are_read_from_files_of_their_own_and_from_packs(bank: Bank, packed: bool) -> None:
    for bits in BITS:
        add(bank, f"both-{bits}", bits, alpha=True)
        add(bank, f"alone-{bits}", bits, alpha=False)
    before = {name: bank.tasks.read(name)[1] for name in bank.task_names()}  # type: ignore[index]
    if packed:
        pack_tasks(bank)
    opened = open_bank(bank.path)
    assert verify_bank(bank.path).problems == ()
    summaries = {one.name: one for one in opened.summarise_tasks()}
    for bits in BITS:
        for name, masks in ((f"both-{bits}", 2), (f"alone-{bits}", 0)):
            stored = opened.read_stored(name)
            assert RESIDUAL.of(stored) is not None
            expected = restore_residual(some_residual(bits), bits, small_bank.LAYERS)
            assert np.array_equal(small_bank.part(RESIDUAL, stored), expected)
            assert opened.read_task(name)[1].shape == (masks, 2)
            assert (alpha_type(stored) is None) == (masks == 0)
            assert (summaries[name].facts["residual"], summaries[name].facts["coefficients"]) == (16, 2 * masks)
            assert opened.tasks.read(name)[1] == before[name]  # type: ignore[index]
    groups = {summary.name: group.only != "alpha" for group in task_groups(opened) for summary in group.summaries}
    assert groups == {name: name not in ("one", "two") for name in before}


def test_a_residual_alone_needs_no_mask(bank: Bank) -> None:
    add(bank, "alone", 1, alpha=False)
    for index in range(3):
        bank.mask_path(index).unlink()
    assert RESIDUAL.of(open_bank(bank.path).read_stored("alone")) is not None


@pytest.mark.parametrize(
    ("stored", "bits", "words"),
    [
        (np.zeros(3, np.uint8), 1, "expected 2 for each of 2 layers"),
        (np.zeros(4, np.uint8), 1, "expected 2 for each of 2 layers"),
        (np.zeros(12, np.float32), 1, "float32"),
        (np.zeros((2, 8), np.uint8), 1, "row of bytes"),
        (np.zeros(4 + 8, np.uint8), 1, "64 values for 50 weights"),
        (np.frombuffer(bytes(2) + np.array([1, np.nan], "<f2").tobytes(), np.uint8), 1, "a scale"),
        (np.frombuffer(bytes(2) + np.array([1, np.inf], "<f2").tobytes(), np.uint8), 1, "a scale"),
        (np.frombuffer(bytes(2) + np.array([-1, 1], "<f2").tobytes(), np.uint8), 1, "a scale"),
    ],
)
def test_what_is_no_residual_is_refused(stored: np.ndarray, bits: int, words: str) -> None:
    layers = (LayerSpec(name="a", shape=(5, 7)), LayerSpec(name="b", shape=(3, 5)))
    with pytest.raises(NumbersError, match=words):
        check_residuals(stored[np.newaxis], bits, layers)


def test_a_record_and_its_parts_must_agree(bank: Bank) -> None:
    record = small_bank.task_record(bank, "three", "rotated-digits/3")
    with pytest.raises(UsageError, match="takes 0 bits, and has a residual"):
        bank.write_task(record, stored_parts(alpha=small_bank.ALPHA, residual=some_residual(1)))
    with pytest.raises(UsageError, match="takes 1 bits, and has none"):
        bank.write_task(
            msgspec.structs.replace(record, settings=small_bank.settings(residual_bits=1)),
            stored_parts(alpha=small_bank.ALPHA),
        )
    with pytest.raises(UsageError, match="expected alpha, residual, head or vote"):
        bank.write_task(record, stored_parts(signature=small_bank.signature(bank)))
