"""Numbers as they are stored, and the text of a task: what comes back, and how much room it takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import small_bank
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from impress_format.errors import FormatError
from impress_format.parts.numbers import NumbersError, NumberType, restore, restore_all, rows_of, store
from impress_format.parts.table import stored_parts
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.file import seal_task, take_apart
from impress_format.tasks.record import TaskRecord
from impress_format.tasks.seal import record_of_task, seal_long
from impress_format.tasks.short import parse_task
from impress_format.tasks.text import TaskText, default_name, read_own, read_owns, write_text

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 5))
MATRICES = SHAPES.flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False))
)


@given(MATRICES)
def test_int8_is_off_by_at_most_half_a_step_of_its_column(numbers: np.ndarray) -> None:
    stored = store(numbers, "int8")
    assert stored.dtype == np.uint8
    assert stored.nbytes == numbers.size + 2 * numbers.shape[1]
    steps = np.abs(numbers).max(0) / 127
    # float16 holds a scale to 11 bits, and below 6e-5 to 3e-8.
    allowed = steps * (0.5 + 127 / 2**11) + 127 * 3e-8
    assert (np.abs(restore(stored, numbers.shape[1]) - numbers) <= allowed + 1e-6 * np.abs(numbers)).all()


@given(MATRICES)
def test_int8_is_values_then_scales(numbers: np.ndarray) -> None:
    content = store(numbers, "int8").tobytes()
    rows, columns = numbers.shape
    values = np.frombuffer(content[: rows * columns], np.int8).reshape(rows, columns).astype(np.float64)
    scales = np.frombuffer(content[rows * columns :], "<f2").astype(np.float64)
    assert np.array_equal(restore(store(numbers, "int8"), columns), (values * scales).astype(np.float32))
    assert values.min() >= -127


@given(MATRICES, st.sampled_from(["float32", "float16"]))
def test_floats_are_what_numpy_makes_of_them(numbers: np.ndarray, kind: NumberType) -> None:
    stored = store(numbers, kind)
    assert stored.dtype == np.dtype(kind)
    assert np.array_equal(restore(stored, numbers.shape[1]), numbers.astype(kind).astype(np.float32))


@given(MATRICES, st.sampled_from(["float32", "float16", "int8"]), st.integers(1, 4))
def test_many_at_once_are_as_one_by_one(numbers: np.ndarray, kind: NumberType, count: int) -> None:
    each = [store(numbers * np.float32(factor), kind) for factor in range(1, count + 1)]
    columns = numbers.shape[1]
    together = restore_all(np.stack(each), columns)
    assert np.array_equal(together, np.stack([restore(one, columns) for one in each]))
    assert rows_of(each[0].dtype, each[0].shape, columns) == len(numbers)


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_stored(kind: NumberType, value: float) -> None:
    with pytest.raises(OverflowError, match=f"too large for {kind}"):
        store(np.array([[1.0, value]], dtype=np.float32), kind)


@pytest.mark.parametrize(("kind", "value"), [("float16", 7e4), ("int8", 1e7)])
def test_what_is_too_large_for_a_type_is_not_stored(kind: NumberType, value: float) -> None:
    with pytest.raises(OverflowError):
        store(np.array([[1.0, value]], dtype=np.float32), kind)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2), (0, 2), (2, 3)])
def test_another_shape_is_none_of_these(shape: tuple[int, ...]) -> None:
    with pytest.raises(NumbersError, match="expected"):
        restore(np.zeros(shape, np.float32), 2)


TEXT = st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), exclude_characters="\u2028\u2029"), max_size=20)
FITS = st.builds(
    TaskTrainingRecord,
    epochs=st.integers(1, 1000),
    lr=st.floats(1e-9, 1e3),
    seed=st.integers(0, 2**53 - 1) | st.just(0),
    batch_size=st.integers(1, 4096) | st.just(128),
    l1=st.floats(0, 10) | st.just(0.0),
    holdout=st.floats(0, 0.99) | st.just(0.0),
    shots=st.none() | st.integers(1, 100),
    start=st.none() | st.just("0123456789abcdef" * 2),
)
RECORDS = st.builds(
    TaskRecord,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    task=st.just("rotated-mnist/30") | TEXT.map(lambda text: f"folder:{text}"),
    basis=st.just("ab" * 16),
    accuracy=st.integers(0, 10_000).map(lambda share: share / 10_000),
    train_accuracy=st.integers(0, 10_000).map(lambda share: share / 10_000),
    fit=FITS,
    settings=(st.just(1) | st.integers(1, 300)).map(lambda groups: small_bank.settings(granularity=groups)),
)
HERE = Path("a.safetensors")


@settings(max_examples=200)
@given(RECORDS, st.booleans())
def test_a_record_comes_back_from_its_text(record: TaskRecord, made: bool) -> None:
    name = default_name(record.task) if made else None
    record = TaskRecord(**{**{f: getattr(record, f) for f in record.__struct_fields__}, "name": name or record.name})
    content = seal_task(record, stored_parts(alpha=np.ones((1, 2), np.float32)), small_bank.manifest())
    found = record_of_task(HERE, content, parse_task(HERE, content))
    for field in ("name", "task", "accuracy", "train_accuracy", "fit", "settings"):
        assert getattr(found, field) == getattr(record, field)
    assert found.basis[:16] == record.basis[:16]
    apart = take_apart(HERE, content)
    assert apart is not None
    text = apart.text
    assert read_own(text.own) == (found.name, found.task, found.accuracy, found.train_accuracy)
    assert read_owns([text.own] * 3) == [read_own(text.own)] * 3
    # Any reader of safetensors and JSON sees the same.
    (row,) = safetensors.numpy.load(content).values()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"] == {"impress": "2"}
    own, shared, parts, body = row[24:].tobytes().split(b"\n", 3)
    assert row[:24].tobytes().hex() == found.digest + record.basis[:16]
    assert json.loads(b"[%s]" % own)[0] == record.task
    assert record.fit is not None
    assert json.loads(b"[%s]" % shared)[0][0] == record.fit.epochs
    assert (parts, body) == (b"a1x2f", np.ones((1, 2), np.float32).tobytes())


def test_thirty_coefficients_take_less_than_250_bytes() -> None:
    fit = TaskTrainingRecord(epochs=3, lr=0.03)
    record = TaskRecord(
        name="rotated-mnist-345",
        task="rotated-mnist/345",
        basis="0" * 32,
        accuracy=0.9412,
        train_accuracy=0.9533,
        fit=fit,
    )
    alpha = np.linspace(-1, 1, 30, dtype=np.float32).reshape(10, 3)
    assert len(seal_task(record, stored_parts(alpha=store(alpha, "int8")), small_bank.manifest())) < 250
    text = write_text(record)
    assert text.own == b'"rotated-mnist/345",0.9412,0.9533,null'
    assert text.shared_bytes == b'"0000000000000000",[3,0.03]'


def test_a_name_is_made_only_where_it_is_one() -> None:
    assert default_name("rotated-mnist/30") == "rotated-mnist-30"
    assert default_name("folder:/home/me") is None
    assert default_name("a" * 101) is None


def test_texts_with_line_breaks_are_refused() -> None:
    """JSON allows them between values; read one to a line they could pass for others."""
    with pytest.raises(Exception, match="line break"):
        read_owns([b'"a/1",0.5,\n0.5,null'])


def test_another_form_of_the_same_text_is_read_and_not_packed() -> None:
    other = TaskText(b'"a/1",0.5,5e-1,null', b'"0000000000000000",[3,0.03]')
    content = seal_long(other, {"alpha": np.ones((1, 2), np.float32)})
    assert record_of_task(HERE, content, parse_task(HERE, content)).train_accuracy == 0.5
    assert take_apart(HERE, content) is None
    with pytest.raises(FormatError, match="damaged"):
        record_of_task(HERE, content[:-1] + b"\x01", parse_task(HERE, content))
