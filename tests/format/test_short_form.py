"""The short form of a task's file: what comes back from it, how long it is, and what is refused (docs/format.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import small_bank
from hypothesis import given, settings
from hypothesis import strategies as st
from test_numbers import RECORDS

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.container.header import in_file_order, read_tensors
from impress_format.errors import FormatError, UsageError
from impress_format.operations.exchange import export_task, import_tasks
from impress_format.parts.numbers import store
from impress_format.parts.table import BY_LETTER, PARTS, stored_parts
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.file import seal_parts, seal_task, take_apart
from impress_format.tasks.record import TaskRecord
from impress_format.tasks.seal import digest_of_task, record_of_task
from impress_format.tasks.short import parse_task
from impress_format.tasks.text import write_text

HERE = Path("a.safetensors")
TASK = "tasks/one.safetensors"
ROWS = st.binary(min_size=1, max_size=300).map(lambda content: np.frombuffer(content, np.uint8))
MATRICES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from(["<f2", "<f4"])).map(
    lambda drawn: np.arange(drawn[0] * drawn[1], dtype=drawn[2]).reshape(drawn[:2])
)
TENSORS = st.dictionaries(st.sampled_from([part.name for part in PARTS]), ROWS | MATRICES, min_size=1)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress")


def test_every_part_has_a_letter_of_its_own() -> None:
    assert len(BY_LETTER) == len(PARTS)
    assert all(len(letter) == 1 and "a" <= letter <= "z" for letter in BY_LETTER)


@settings(max_examples=200)
@given(RECORDS, TENSORS)
def test_record_and_parts_come_back(record: TaskRecord, parts: dict[str, np.ndarray]) -> None:
    text = write_text(record)
    content = seal_parts(HERE, text, parts)
    header = parse_task(HERE, content)
    found, tensors = record_of_task(HERE, content, header), read_tensors(content, header)
    assert write_text(found) == text
    assert found.digest == digest_of_task(content).hex()
    assert list(tensors) == list(in_file_order(parts))
    for name, part in parts.items():
        assert (tensors[name].dtype, tensors[name].shape) == (part.dtype, part.shape)
        assert tensors[name].tobytes() == part.tobytes()
        assert tensors[name].flags.aligned
        assert not tensors[name].flags.writeable
    apart = take_apart(HERE, content)
    assert apart is not None
    assert seal_parts(HERE, apart.text, apart.parts) == content
    # Any reader of safetensors gets all of it.
    (row,) = safetensors.numpy.load(content).values()
    assert content.endswith(row.tobytes())
    # The form that was written before says the same, in more bytes.
    long = small_bank.in_long_form(content)
    assert len(long) > len(content) + 30 * len(parts)
    before = record_of_task(HERE, long, parse_task(HERE, long))
    assert write_text(before) == text
    assert before.digest != found.digest


@settings(max_examples=100)
@given(RECORDS, TENSORS, st.data())
def test_every_changed_missing_or_added_byte_is_noticed(
    record: TaskRecord, parts: dict[str, np.ndarray], data: st.DataObject
) -> None:
    content = seal_parts(HERE, write_text(record), parts)
    at = data.draw(st.integers(0, len(content) - 1))
    for changed in (
        content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :],
        content[:at] + content[at + 1 :],
        content[:at],
        content[:at] + b"0" + content[at:],
        content + b"\0",
    ):
        with pytest.raises(FormatError):
            record_of_task(HERE, changed, parse_task(HERE, changed))


@pytest.mark.parametrize(
    "part",
    [np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), np.float32), np.zeros(4, np.float32), np.zeros(4, np.uint32),
     np.zeros(0, np.uint8)],
)  # fmt: skip
def test_a_part_of_another_type_or_shape_is_not_stored(bank: Bank, part: np.ndarray) -> None:
    record = small_bank.task_record(bank, "new", "rotated-digits/5")
    with pytest.raises(UsageError, match="cannot be stored"):
        seal_task(record, {"alpha": part}, bank.manifest)
    with pytest.raises(FormatError, match="which no part is"):
        seal_parts(HERE, write_text(record), {"beta": np.zeros(4, np.uint8)})


def test_what_a_task_takes_beside_its_parts() -> None:
    record = TaskRecord(
        name="rotated-mnist-135",
        task="rotated-mnist/135",
        basis="0" * 32,
        accuracy=0.9488,
        train_accuracy=0.9498,
        fit=TaskTrainingRecord(epochs=3, lr=0.03),
    )
    parts = stored_parts(alpha=store(np.linspace(-1, 1, 30, dtype=np.float32).reshape(10, 3), "int8"))
    content = seal_parts(HERE, write_text(record), {**parts, "signature": np.zeros(64, np.uint8)})
    assert (len(content) - 36 - 64, len(small_bank.in_long_form(content)) - 36 - 64) == (169, 272)
    assert len(seal_parts(HERE, write_text(record), parts)) - 36 == 166


def test_a_task_of_either_form_is_exported_imported_and_renamed(bank: Bank, tmp_path: Path) -> None:
    path = bank.path / TASK
    path.write_bytes(small_bank.in_long_form(path.read_bytes()))
    export_task(bank, "one", tmp_path / "one.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == path.read_bytes()
    (again,) = import_tasks(bank, [tmp_path / "one.safetensors"])
    assert again.name == "one"
    (other,) = import_tasks(bank, [tmp_path / "one.safetensors"], "other")
    assert other.name == "other"
    assert (bank.read_task("other")[1] == bank.read_task("one")[1]).all()
    assert verify_bank(bank.path).ok


# Files made to harm: each has the right checksum.


def resealed(header: bytes, row: bytes) -> bytes:
    start = len(header).to_bytes(8, "little") + header
    return start + hashlib.sha256(start + bytes(16) + row[16:]).digest()[:16] + row[16:]


def taken(content: bytes) -> tuple[bytes, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]


def header_with(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        header, row = taken(content)
        assert old in header
        return resealed(header.replace(old, new, 1), row)

    return change


def row_with(old: bytes, new: bytes, tail: bytes = b"") -> Callable[[bytes], bytes]:
    """The row of bytes with one place changed, and the header of its length."""

    def change(content: bytes) -> bytes:
        header, row = taken(content)
        assert old in row
        other = row[:16] + row[16:].replace(old, new, 1) + tail
        return resealed(header.replace(b"%d" % len(row), b"%d" % len(other)), other)

    return change


ENTRY, OWN = b"\na2x2f\n", b'"rotated-digits/1",0.9,0.95,"one"\n'
SHARED = b"\n[3,0.03]\n"
BASIS = b'["one","c"\n"d"],"0123456789abcdef",[3,0.03]\n'
NOT_WRITTEN = "not written as a writer writes it"

HOSTILE: list[tuple[str, Callable[[bytes], bytes], str]] = [
    # the header
    ("a header with spaces", header_with(b"}}", b"}} "), "another header"),
    ("another tensor", header_with(b'"":', b'"a":'), "another header"),
    ("another type", header_with(b"U8", b"I8"), "another header"),
    ("another length", header_with(b'"shape":[8', b'"shape":[7'), "another header"),
    ("two tensors", header_with(b"}}", b'},"b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "another header"),
    ("more metadata", header_with(b'"2"}', b'"2","a":"b"}'), "metadata"),
    ("a version to come", header_with(b'"2"', b'"3"'), "TaskRecord"),
    ("a header past the end", lambda content: b"\xff" * 8 + content[8:], "another header"),
    ("nothing but a header", lambda content: resealed(taken(content)[0], b""), "another header"),
    # the list of parts
    ("a part twice", row_with(ENTRY, b"\na2x2fa2x2f\n", bytes(16)), "alpha twice"),
    ("an unknown part", row_with(ENTRY, b"\na2x2fz4\n", bytes(4)), "part 'z'"),
    ("no part", row_with(ENTRY, b"\n\n"), "its text says 0"),
    ("a part of no bytes", row_with(ENTRY, b"\na2x2fs0\n"), "no valid list of parts: 's0'"),
    ("leading zeros", row_with(ENTRY, b"\na02x2f\n"), "no valid list of parts"),
    ("no letter", row_with(ENTRY, b"\n2x2f\n"), "no valid list of parts"),
    ("no type", row_with(ENTRY, b"\na2x2\n"), "part 'x'"),
    ("three sides", row_with(ENTRY, b"\na2x2x1f\n"), "part 'x'"),
    ("a space", row_with(ENTRY, b"\na2x2f \n"), "no valid list of parts"),
    ("sides beyond any file", row_with(ENTRY, b"\na999999999x999999999f\n"), "its text says"),
    ("sides beyond integers", row_with(ENTRY, b"\na" + b"9" * 400 + b"\n"), "no valid list of parts"),
    ("bytes left over", row_with(ENTRY, ENTRY, b"\0"), "holds 17 bytes of parts, its text says 16"),
    ("too few bytes", row_with(ENTRY, b"\na2x3f\n"), "holds 16 bytes of parts, its text says 24"),
    ("another type of numbers", row_with(ENTRY, b"\na2x4e\n"), "(2, 4)"),
    ("parts in another order", row_with(ENTRY, b"\ns64a2x2f\n", bytes(64)), NOT_WRITTEN),
    ("a signature alone", row_with(ENTRY, b"\ns16\n"), "expected alpha"),
    ("a residual unasked", row_with(ENTRY, b"\na2x2fr8\n", bytes(8)), "takes 0 bits"),
    ("a short signature", row_with(ENTRY, b"\na2x2fs63\n", bytes(63)), "64 bytes"),
    ("NaN", row_with(b"\x00\x00\x00\x3f", b"\x00\x00\xc0\x7f"), "NaN"),
    # the text
    ("no line", row_with(OWN, b""), "three lines"),
    ("a line too long", row_with(OWN, b'"' + b"x" * 70_000 + OWN), "three lines"),
    ("another accuracy than is written", row_with(b"0.95", b"0.95001"), NOT_WRITTEN),
    ("a number in another form", row_with(b"0.95", b"9.5e-1"), NOT_WRITTEN),
    ("a text in another form", row_with(b"rotated", b"r\\u006ftated"), NOT_WRITTEN),
    ("spaces", row_with(b",0.95", b", 0.95"), NOT_WRITTEN),
    ("defaults that are written", row_with(SHARED, b"\n[3,0.03,0]\n"), NOT_WRITTEN),
    ("a granularity that is written", row_with(SHARED, b"\n[3,0.03],1\n"), NOT_WRITTEN),
    ("a name that is made", row_with(b'"one"', b'"rotated-digits-1"'), NOT_WRITTEN),
    ("a name of null", row_with(b',"one"', b",null"), "TaskRecord"),
    ("a name that is left out", row_with(b',"one"', b""), "rotated-digits-1"),
    ("another name", row_with(b'"one"', b'"two"'), "two"),
    ("halves cut elsewhere", row_with(b'"one"\n[3,0.03]\n', BASIS), NOT_WRITTEN),
    ("no UTF-8", row_with(b"rotated", b"\xff\xff"), "TaskRecord"),
    ("no JSON", row_with(b'"rotated', b"rotated"), "malformed"),
    ("another end of the array", row_with(SHARED, b"\n[3,0.03]],[\n"), "TaskRecord"),
    ("granularity 0", row_with(SHARED, b"\n[3,0.03],0\n"), "$[8]"),
    ("accuracy of 200 %", row_with(b"0.9,", b"2.0,"), "$[3]"),
]


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_verify_says_what_is_wrong_with_a_short_file(bank: Bank, change: Callable[[bytes], bytes], words: str) -> None:
    path = bank.path / TASK
    path.write_bytes(change(path.read_bytes()))
    (problem,) = verify_bank(bank.path).problems
    assert problem.file == TASK
    assert words in problem.error
    assert "checksum" not in problem.error
    with pytest.raises(FormatError):
        open_bank(bank.path).read_task("one")


def test_a_task_over_another_basis_is_refused(bank: Bank) -> None:
    path = bank.path / TASK
    header, row = taken(path.read_bytes())
    path.write_bytes(resealed(header, row[:16] + bytes(8) + row[24:]))
    (problem,) = verify_bank(bank.path).problems
    assert "another basis" in problem.error


def test_a_wrong_checksum_is_noticed(bank: Bank) -> None:
    path = bank.path / TASK
    header, row = taken(path.read_bytes())
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16) + row[16:])
    (problem,) = verify_bank(bank.path).problems
    assert "is damaged: its bytes give checksum" in problem.error
