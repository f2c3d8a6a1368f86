"""Heads over a bank's projection: stored in bytes that anybody can read, in files and packs, refused where they lie."""

from __future__ import annotations

from dataclasses import replace
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
from impress_format.bank_files.adaptation import StoredAdaptation, restore_adaptation
from impress_format.bank_files.projection import PROJECTION
from impress_format.errors import FormatError, UsageError
from impress_format.operations.exchange import export_task, import_tasks
from impress_format.operations.pack import pack_tasks
from impress_format.operations.stats import measure_storage
from impress_format.operations.task_groups import task_groups
from impress_format.parts.head import HEAD as HEAD_PART
from impress_format.parts.head import (
    check_heads,
    count_dimensions,
    head_bytes,
    restore_head,
    store_head,
    whole_dimensions,
)
from impress_format.parts.numbers import NumbersError
from impress_format.parts.residual import RESIDUAL, store_residual
from impress_format.parts.table import stored_parts
from impress_format.records.network import LayerSpec
from impress_format.tasks.record import TaskRecord
from impress_format.tasks.text import TaskText, is_nameless, read_own, read_owns, read_text, write_text

CLASSES, BITS = 3, 2
"""Of small_bank's network, whose last layer has 5 inputs."""
CODES = np.arange(12, dtype=np.uint8).reshape(CLASSES, 4) % 4
SCALES = np.array([0.5, 1.0, 0.25], dtype=np.float16)
BIASES = np.array([0.0, -1.5, 2.0], dtype=np.float16)
WEIGHT = (2.0 * CODES - 3) * SCALES[:, np.newaxis].astype(np.float32)


def record(bank: Bank, name: str = "one", /, **changes: object) -> TaskRecord:
    task = small_bank.task_record(bank, name, f"rotated-digits/{len(name)}", masks=0)
    made = {"basis": bank.basis_digest(0, True), "head_bits": BITS, **changes}
    return small_bank.changed(task, **made)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """A bank with a task of a head, and one of a head and a residual in the layer before it."""
    bank = small_bank.over_weights(tmp_path / "a.impress")
    head = store_head(CODES, SCALES, BIASES, BITS)
    bank.write_task(record(bank), stored_parts(head=head))
    residual = store_residual(np.arange(8, dtype=np.uint8) % 2, np.array([0.5], dtype=np.float16), 1)
    bank.write_task(
        record(bank, "both", residual_bits=1, residual_layers=1), stored_parts(residual=residual, head=head)
    )
    return bank


@settings(max_examples=100)
@given(classes=st.integers(1, 9), dimensions=st.integers(1, 40), bits=st.sampled_from([1, 2, 4, 8]), data=st.data())
def test_a_head_comes_back_value_for_value(classes: int, dimensions: int, bits: int, data: st.DataObject) -> None:
    whole = whole_dimensions(classes, dimensions, bits)
    assert dimensions - 8 < whole <= dimensions
    if not whole:
        return
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    codes = generator.integers(0, 2**bits, (classes, whole)).astype(np.uint8)
    scales, biases = generator.uniform(0, 9, classes).astype("<f2"), generator.normal(size=classes).astype("<f2")
    stored = store_head(codes, scales, biases, bits)
    assert len(stored) == head_bytes(classes, whole, bits)
    assert count_dimensions(len(stored), bits, classes) == whole
    # By hand: value n takes bits n*b ... n*b + b - 1, the lowest of the first byte first.
    stream = "".join(f"{byte:08b}"[::-1] for byte in stored.tobytes())
    values = [int(stream[place * bits : (place + 1) * bits][::-1], 2) for place in range(classes * whole)]
    assert values == codes.flatten().tolist()
    head = restore_head(stored, bits, classes, whole)
    assert np.array_equal(head.weight, (2.0 * codes - (2**bits - 1)) * scales[:, np.newaxis].astype(np.float32))
    assert np.array_equal(head.bias, biases.astype(np.float32))


def test_five_classes_of_128_values_of_two_bits_take_180_bytes() -> None:
    assert head_bytes(5, 128, 2) == 180


@pytest.mark.parametrize("packed", [False, True])
def test_one_that_no_writer_stores_is_found_before_any_of_its_group_is_asked_for(bank: Bank, packed: bool) -> None:
    bank.write_task(
        record(bank, "bad"), stored_parts(head=store_head(CODES, np.full(3, np.nan, np.float16), BIASES, BITS))
    )
    if packed:
        pack_tasks(bank)
    with pytest.raises(FormatError, match="NaN or infinite"):
        list(task_groups(open_bank(bank.path)))


@pytest.mark.parametrize("packed", [False, True])
def test_it_is_read_from_a_file_of_its_own_and_from_a_pack(bank: Bank, packed: bool) -> None:
    if packed:
        pack_tasks(bank)
    opened = open_bank(bank.path)
    one, both = (opened.read_stored(name) for name in ("one", "both"))
    for stored in (one, both):
        assert HEAD_PART.of(stored) is not None
        assert np.array_equal(small_bank.part(HEAD_PART, stored).weight, WEIGHT)
        assert np.array_equal(small_bank.part(HEAD_PART, stored).bias, BIASES.astype(np.float32))
        assert alpha_type(stored) is None
    assert RESIDUAL.of(one) is None
    assert RESIDUAL.of(both) is not None
    assert small_bank.part(RESIDUAL, both).tolist() == [-0.5, 0.5] * 4  # all of the one layer before the last
    assert [
        (task.facts["head"], task.facts["residual"], task.facts["coefficients"]) for task in opened.summarise_tasks()
    ] == [(4, 8, 0), (4, 0, 0)]
    assert opened.summarise_task("one").facts["head"] == 4
    assert not any(group.only == "alpha" for group in task_groups(opened))
    assert verify_bank(bank.path).ok


def test_a_task_of_other_classes_than_the_network_says_how_many(bank: Bank) -> None:
    own = record(bank, "four", classes=2)
    bank.write_task(own, stored_parts(head=store_head(CODES[:2], SCALES[:2], BIASES[:2], BITS)))
    stored = bank.read_stored("four")
    assert HEAD_PART.of(stored) is not None
    assert small_bank.part(HEAD_PART, stored).weight.shape == (2, 4)
    pack_tasks(bank)
    assert verify_bank(bank.path).ok
    assert open_bank(bank.path).summarise_task("four").facts["head"] == 4


def test_the_text_of_a_record_ends_with_its_last_setting_that_is_no_default(bank: Bank) -> None:
    for settings_, end in (
        ({}, b",1,0,2"),
        ({"residual_bits": 1, "residual_layers": 1}, b",1,1,2,1"),
        ({"classes": 7}, b",1,0,2,0,7"),
        ({"head_bits": 0}, b"]"),
    ):
        text = write_text(record(bank, **settings_))
        assert text.shared_bytes.endswith(end)
        read = read_text(Path("a"), text.sealed(b"0" * 32))
        assert (read.settings.head.bits, read.settings.residual.layers, read.settings.classes.count) == (
            settings_.get("head_bits", BITS),
            settings_.get("residual_layers", 0),
            settings_.get("classes", 0),
        )


NAMES = ("rose, red", 'a "wild" one', "\u5c71")


@pytest.mark.parametrize("packed", [False, True])
def test_a_task_names_its_own_classes(bank: Bank, packed: bool) -> None:
    head = store_head(CODES, SCALES, BIASES, BITS)
    named = record(bank, "mine", class_names=NAMES)
    nameless = record(bank, "rotated-digits-9", class_names=("null", "]", "x"))
    assert write_text(named).own.endswith(b',["mine","rose, red","a \\"wild\\" one","\xe5\xb1\xb1"]')
    assert is_nameless(write_text(msgspec.structs.replace(nameless, task="rotated-digits/9")).own)
    assert not is_nameless(write_text(named).own)
    bank.write_task(named, stored_parts(head=head))
    bank.write_task(msgspec.structs.replace(nameless, task="rotated-digits/9"), stored_parts(head=head))
    if packed:
        pack_tasks(bank)
    opened = open_bank(bank.path)
    assert opened.read_task_record("mine").class_names == NAMES
    assert opened.read_task_record("rotated-digits-9").class_names == ("null", "]", "x")
    assert opened.task_names() == ["both", "mine", "one", "rotated-digits-9"]
    assert opened.find_task("rotated-digits/9") == "rotated-digits-9"
    assert [one.name for one in opened.summarise_tasks()] == opened.task_names()
    assert verify_bank(bank.path).ok
    export_task(opened, "mine", bank.path.parent / "a.safetensors")
    (renamed,) = import_tasks(
        small_bank.over_weights(bank.path.parent / "b.impress"), [bank.path.parent / "a.safetensors"], "other"
    )
    assert renamed.name == "other"
    assert open_bank(bank.path.parent / "b.impress").read_task_record("other").class_names == NAMES


@pytest.mark.parametrize(
    "given", [b"[]", b'[null]', b'["a"]', b'[null,"a"]', b'[null,"a",null]', b'["a/b","a","b"]', b'[null,"a",""]',
              b'[null,"a",1]', b'[["a"],"a","b"]', b'[null,"a","%s"]' % (b"b" * 1024 + b'","' + b"c" * 1024) * 3]
)  # fmt: skip
def test_names_that_no_writer_gives_are_refused(bank: Bank, given: bytes) -> None:
    text = write_text(record(bank))
    own = text.own.removesuffix(b'"one"') + given
    with pytest.raises(FormatError):
        read_text(Path("a"), TaskText(own, text.shared_bytes).sealed(b"0" * 32))
    for read in (read_own, lambda own: read_owns([own, own])):
        with pytest.raises((msgspec.MsgspecError, UnicodeError)):
            read(own)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (np.zeros(12, dtype=np.uint8), "no rows of 2 bits"),
        (np.zeros((1, 15), dtype=np.uint8), "row of bytes"),
        (np.zeros(15, dtype=np.float16), "float16"),
        (np.zeros(15 + 3, dtype=np.uint8), "8 dimensions, the bank's projection 4"),
        (store_head(CODES, -SCALES, BIASES, BITS), "negative"),
        (store_head(CODES, SCALES * np.nan, BIASES, BITS), "NaN"),
        (store_head(CODES, SCALES, BIASES + np.inf, BITS), "infinite"),
    ],
)
def test_what_is_no_head_is_refused(bank: Bank, stored: np.ndarray, words: str) -> None:
    with pytest.raises(NumbersError, match=words):
        check_heads(stored[np.newaxis], BITS, CLASSES, 4)
    if stored.dtype == np.uint8 and stored.ndim == 1:
        bank.write_task(record(bank, "bad"), stored_parts(head=stored))
        assert [one.error for one in verify_bank(bank.path).problems if words in one.error]
        pack_tasks(bank)
        assert [one.error for one in verify_bank(bank.path).problems if words in one.error]


def test_bytes_that_are_no_whole_rows_are_no_head() -> None:
    with pytest.raises(NumbersError, match="no rows of 8 bits"):
        count_dimensions(4 + 4 * CLASSES, 8, CLASSES)


def test_padding_bits_that_are_set_are_refused() -> None:
    stored = store_head(np.ones((3, 2), dtype=np.uint8), SCALES, BIASES, 1)
    assert stored[0] == 0b111111
    with pytest.raises(NumbersError, match="padding"):
        check_heads((stored | np.array([128, *[0] * 12], dtype=np.uint8))[np.newaxis], 1, CLASSES, 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head_bits": 0}, "head takes 0 bits"),
        ({"residual_bits": 1, "residual_layers": 1}, "residual takes 1 bits"),
        ({"residual_layers": 1}, "none but of a residual beside a head"),
    ],
)
def test_a_record_that_says_otherwise_is_not_written(bank: Bank, changes: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        bank.write_task(record(bank, "bad", **changes), stored_parts(head=store_head(CODES, SCALES, BIASES, BITS)))


def test_a_head_stands_beside_no_alpha_and_no_mask(bank: Bank) -> None:
    head = store_head(CODES, SCALES, BIASES, BITS)
    with pytest.raises(UsageError, match="no alpha and no mask"):
        bank.write_task(record(bank, "bad"), stored_parts(alpha=small_bank.ALPHA, head=head))
    residual = store_residual(np.zeros(8, np.uint8), np.zeros(2, np.float16), 1)
    with pytest.raises(UsageError, match="1 to 1"):
        bank.write_task(record(bank, "bad", residual_bits=1), stored_parts(residual=residual, head=head))
    with pytest.raises(UsageError, match="or a head to tell them apart"):
        bank.write_task(record(bank, "bad", residual_bits=1, head_bits=0, classes=4), stored_parts(residual=residual))


def test_a_head_over_another_projection_is_refused(bank: Bank, tmp_path: Path) -> None:
    other = small_bank.over_weights(tmp_path / "b.impress")
    other.files.path(PROJECTION).unlink()
    other.files.write(PROJECTION, small_bank.some_projection(seed=1))
    file = tmp_path / "one.safetensors"
    export_task(bank, "one", file)
    with pytest.raises(FormatError, match="another basis"):
        import_tasks(open_bank(other.path), [file])
    same = small_bank.over_weights(tmp_path / "c.impress")
    assert [task.facts["head"] for task in import_tasks(same, [file])] == [4]


def test_without_a_projection_heads_are_unchecked_and_named(bank: Bank) -> None:
    bank.files.path(PROJECTION).unlink()
    outcome = verify_bank(bank.path)
    assert {one.error for one in outcome.problems} == {"is missing"}
    with pytest.raises(FormatError, match="missing"):
        open_bank(bank.path).read_stored("one")


def test_a_projection_comes_back_and_is_kept(bank: Bank) -> None:
    made = small_bank.some_projection()
    _, read = bank.files.read(PROJECTION)
    np.testing.assert_allclose(read.directions, made.directions, atol=0.01)
    assert np.array_equal(read.mean, made.mean)
    assert np.array_equal(read.within, made.within)
    assert np.array_equal(read.between, made.between)
    before = bank.files.path(PROJECTION).read_bytes()
    bank.files.write(PROJECTION, small_bank.some_projection(2))
    assert bank.files.path(PROJECTION).read_bytes() == before
    assert measure_storage(bank).bytes.projection == len(before)


def test_a_bank_of_random_weights_has_no_projection(bank: Bank, tmp_path: Path) -> None:
    other = small_bank.make(tmp_path / "b.impress")
    other.files.path(PROJECTION).write_bytes(bank.files.path(PROJECTION).read_bytes())
    assert [one.error for one in verify_bank(other.path).problems] == ["does not belong in a bank"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": np.zeros(4, dtype=np.float16)}, "mean is float16"),
        ({"mean": np.full(5, np.inf, dtype=np.float16)}, "finite"),
        ({"within": np.zeros((4, 3), dtype=np.float32)}, "within is float16"),
        ({"directions": np.zeros((5, 6), dtype=np.float32)}, "no bytes of 1 to 5 columns"),
    ],
)
def test_what_is_no_projection_is_refused(bank: Bank, changes: dict[str, np.ndarray], words: str) -> None:
    bank.files.path(PROJECTION).unlink()
    bank.files.write(PROJECTION, replace(small_bank.some_projection(), **changes))  # type: ignore[arg-type]
    with pytest.raises(FormatError, match=words):
        open_bank(bank.path).files.read(PROJECTION)


def weight_delta(bits: int = 2, layers: int = 1) -> StoredAdaptation:
    """Of the one layer before the last of small_bank's network, (5, 7)."""
    generator = np.random.default_rng(3)
    return StoredAdaptation(
        layers=layers,
        bits=bits,  # type: ignore[arg-type]
        codes=generator.integers(0, 2**bits, 35).astype(np.uint8),
        steps=np.linspace(0, 1, 5).astype(np.float16),
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_what_moved_the_network_comes_back_and_heads_belong_to_it(bank: Bank, bits: int) -> None:
    before = bank.basis_digest(0, True)
    bank.files.path(PROJECTION).unlink()
    made = small_bank.some_projection()
    made = replace(made, adaptation=weight_delta(bits), epochs=3, tasks=("rotated-digits/0",), holdout=0.25)
    bank.files.write(PROJECTION, made)
    opened = open_bank(bank.path)
    record, read = opened.files.read(PROJECTION)
    assert (record.layers, record.bits, record.epochs, record.tasks, record.holdout) == (
        1, bits, 3, ("rotated-digits/0",), 0.25,
    )  # fmt: skip
    assert read.adaptation is not None
    assert np.array_equal(read.adaptation.codes, weight_delta(bits).codes)
    assert np.array_equal(read.adaptation.steps, weight_delta(bits).steps)
    assert opened.basis_digest(0, True) != before
    assert {one.error for one in verify_bank(bank.path).problems} == {
        "was learned over another basis: it belongs to another bank"
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codes": np.zeros(31, np.uint8)}, "2 bits of 35 weights"),
        ({"steps": np.zeros(4, np.float16)}, "expected 5 finite float16"),
        ({"steps": np.full(5, -1, np.float16)}, "0 or more"),
        ({"steps": np.full(5, np.nan, np.float16)}, "finite"),
        ({"layers": 2}, "network has none such"),
        ({"layers": 0}, "holds"),
    ],
)
def test_what_cannot_have_moved_it_is_refused(bank: Bank, changes: dict[str, object], words: str) -> None:
    bank.files.path(PROJECTION).unlink()
    wrong = replace(weight_delta(), **changes)  # type: ignore[arg-type]
    bank.files.write(PROJECTION, replace(small_bank.some_projection(), adaptation=wrong, epochs=3))
    assert [one.error for one in verify_bank(bank.path).problems if words in one.error]


def test_set_bits_after_the_last_code_are_refused() -> None:
    layer = LayerSpec(name="a", shape=(3, 1))
    tensors: dict[str, np.ndarray] = {"codes": np.full(1, 255, dtype=np.uint8), "steps": np.ones(3, dtype=np.float16)}
    with pytest.raises(FormatError, match="padding"):
        restore_adaptation(Path("a"), tensors, 1, 2, (layer,))
