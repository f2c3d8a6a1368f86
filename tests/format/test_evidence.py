"""Signatures in a bank with a projection: a linear form each, kept apart from those of another projection."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
import test_head
from hypothesis import given, settings
from hypothesis import strategies as st

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.bank_files.projection import PROJECTION
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER
from impress_format.errors import FormatError
from impress_format.operations.create import write_plan
from impress_format.operations.pack import pack_tasks
from impress_format.operations.task_groups import task_groups
from impress_format.parts.feature_signature import (
    MOST_WEIGHTS,
    StoredFeatureSignatures,
    check_feature_signatures,
    count_weights,
    restore_feature_signatures,
    store_feature_signature,
)
from impress_format.parts.head import HEAD as HEAD_PART
from impress_format.parts.head import store_head
from impress_format.parts.numbers import NumbersError
from impress_format.parts.table import stored_parts
from impress_format.records.fields import SIGNATURE_BYTES

DIRECTIONS = 4
CODES = np.array([15, 0, 7, 8], dtype=np.uint8)
HEAD = store_head(test_head.CODES, test_head.SCALES, test_head.BIASES, test_head.BITS)
HALVES = st.floats(-65504, 65504, width=16)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """A bank with a projection, a signed task with a head, and one without signature."""
    bank = small_bank.over_weights(tmp_path / "a.impress")
    bank.write_task(test_head.record(bank), stored_parts(signature=signature(bank), head=HEAD))
    bank.write_task(test_head.record(bank, "bare"), stored_parts(head=HEAD))
    return bank


def signature(bank: Bank, codes: np.ndarray = CODES, scale: float = 0.5) -> bytes:
    return store_feature_signature(bank.identity.signature_tag(), codes, scale, -3.0, 1.25)


def restored(*signatures: bytes, directions: int = DIRECTIONS) -> StoredFeatureSignatures:
    rows = np.frombuffer(b"".join(signatures), dtype=np.uint8).reshape(len(signatures), -1)
    check_feature_signatures(rows, directions)
    return restore_feature_signatures(rows, directions)


@settings(max_examples=100)
@given(
    codes=st.lists(st.lists(st.integers(0, 15), min_size=3, max_size=3), min_size=1, max_size=130),
    scales=st.lists(HALVES.map(abs), min_size=3, max_size=3),
    biases=st.lists(HALVES, min_size=3, max_size=3),
)
def test_three_signatures_come_back_value_for_value(
    codes: list[list[int]], scales: list[float], biases: list[float]
) -> None:
    columns = np.array(codes, dtype=np.uint8)[:MOST_WEIGHTS].T
    made = [store_feature_signature(b"ab", *one, 2.0) for one in zip(columns, scales, biases, strict=True)]
    assert {len(one) for one in made} == {SIGNATURE_BYTES}
    # By hand: code n is half n of bytes 8 ... 63, the lower half of a byte first.
    for one, expected in zip(made, columns, strict=True):
        halves = [byte >> shift & 15 for byte in one[8:] for shift in (0, 4)]
        assert halves == [*expected.tolist(), *[0] * (MOST_WEIGHTS - len(expected))]
    read = restored(*made, directions=len(codes))
    assert count_weights(len(codes)) == columns.shape[1]
    levels = 2.0 * columns - 15
    assert np.array_equal(read.weight, (levels * np.array(scales)[:, np.newaxis]).astype(np.float32))
    assert (read.bias.tolist(), read.deviation.tolist()) == (biases, [2.0] * 3)


def test_what_no_16_bit_number_holds_is_stored_as_the_largest() -> None:
    assert restored(store_feature_signature(b"ab", CODES, 1.0, -1e9, 1e9)).bias.tolist() == [-65504]


@pytest.mark.parametrize(
    ("at", "value", "problem"),
    [
        (2, np.float16(-1.0), "negative"),
        (2, np.float16(np.nan), "NaN"),
        (4, np.float16(np.inf), "infinite"),
        (6, np.float16(-0.5), "negative"),
        (8 + DIRECTIONS // 2, np.uint8(1), "more than the 4 directions"),
        (63, np.uint8(0xF0), "more than the 4 directions"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_no_writer_stores_is_refused(bank: Bank, at: int, value: np.generic, problem: str, packed: bool) -> None:
    hostile = bytearray(signature(bank))
    hostile[at : at + value.nbytes] = value.tobytes()
    with pytest.raises(NumbersError, match=problem):
        restored(bytes(hostile))
    bank.write_task(test_head.record(bank, "hostile"), stored_parts(signature=bytes(hostile), head=HEAD))
    if packed:
        pack_tasks(bank)
    (found,) = verify_bank(bank.path).problems
    assert problem in found.error
    with pytest.raises(FormatError, match=problem):
        open_bank(bank.path).read_task("hostile")
    with pytest.raises(FormatError, match=problem):
        list(task_groups(open_bank(bank.path)))


@pytest.mark.parametrize("packed", [False, True])
def test_groups_of_tasks_have_their_signatures_and_heads(bank: Bank, packed: bool) -> None:
    other = store_head(test_head.CODES[::-1], test_head.SCALES, test_head.BIASES, test_head.BITS)
    bank.write_task(test_head.record(bank, "other"), stored_parts(signature=signature(bank, CODES[::-1]), head=other))
    bank.write_task(
        test_head.record(bank, "two-classes", classes=2),
        stored_parts(
            signature=signature(bank),
            head=store_head(test_head.CODES[:2], test_head.SCALES[:2], test_head.BIASES[:2], test_head.BITS),
        ),
    )
    if packed:
        pack_tasks(bank)
    opened, found = open_bank(bank.path), {}
    for group in task_groups(opened):
        assert group.heads is not None
        backwards = np.arange(len(group.summaries))[::-1]
        heads = group.heads(backwards)
        for row, weight, bias in zip(backwards, heads.weight, heads.bias, strict=True):
            name = group.summaries[row].name
            stored = HEAD_PART.of(opened.read_stored(name))
            assert stored is not None
            assert np.array_equal(weight, stored.weight)
            assert np.array_equal(bias, stored.bias)
            found[name] = None if group.signatures is None else group.signatures[row].tobytes()
    one = signature(bank)
    assert found == {"one": one, "bare": None, "other": signature(bank, CODES[::-1]), "two-classes": one}


@pytest.mark.parametrize("packed", [False, True])
def test_a_signature_made_with_another_projection_is_refused(bank: Bank, packed: bool) -> None:
    foreign = bytes([bank.identity.signature_tag()[0] ^ 1]) + signature(bank)[1:]
    bank.write_task(test_head.record(bank, "foreign"), stored_parts(signature=foreign, head=HEAD))
    if packed:
        pack_tasks(bank)
    (found,) = verify_bank(bank.path).problems
    assert re.fullmatch(r"signature (of task .* )?was not made with this bank's projection", found.error)


def test_a_recogniser_that_the_bank_has_signs_instead(tmp_path: Path) -> None:
    """Banks made before signatures were of features go on as they were."""
    like = small_bank.over_weights(tmp_path / "a.impress")
    older = write_plan(tmp_path / "b.impress", msgspec.structs.replace(like.manifest, recogniser=True))
    older.files.write(PROJECTION, small_bank.some_projection())
    older.files.write(TASK_CLASSIFIER, small_bank.some_recogniser())
    assert (like.signature_kind, older.signature_kind) == ("features", "pixels")
    assert like.identity.signature_tag() == bytes.fromhex(like.projection_record.digest)[:2]
    assert older.identity.signature_tag() == older.files.read(TASK_CLASSIFIER)[0].tag
    older.write_task(test_head.record(older), stored_parts(signature=small_bank.signature(older), head=HEAD))
    assert verify_bank(older.path).ok
