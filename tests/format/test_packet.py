"""A task as a packet: what it holds, byte for byte, and what is refused where it arrives."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_bank import ALPHA, make, settings, signature_of, task_record

from impress_format.bank import Bank, open_bank
from impress_format.errors import BankMismatch, FormatError
from impress_format.operations.exchange import import_tasks
from impress_format.operations.packets import packets_of_task, task_of_packet
from impress_format.parts.part import Array
from impress_format.parts.table import PARTS, Settings, stored_parts
from impress_format.tasks.packet import is_packet, packet_body, packet_bytes, read_packet, tag_of
from impress_format.tasks.record import TaskRecord

NAMES = ("cat", "dog", "eel")
HERE = Path("packet")
VALUE_BITS = st.sampled_from([0, 1, 2, 4, 8])
LARGE = st.integers(0, (1 << 24))


def named(_: TaskRecord) -> tuple[str, ...]:
    return NAMES


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return make(tmp_path / "a.impress", task_classifier=True)


def arrived(bank: Bank, name: str = "came", **told: object) -> TaskRecord:
    return msgspec.structs.replace(
        TaskRecord(name=name, task=f"dataset:{name}", basis="0" * 32, accuracy=None, train_accuracy=None, fit=None),
        **told,
    )


def test_a_packet_is_the_bytes_that_the_specification_says(bank: Bank) -> None:
    """docs/format.md, Packets, written out by hand: alpha int8 of two masks, granularity 1."""
    alpha = np.array([3, 0xFB, 127, 0x81, 0, 0x3C, 0, 0x40], dtype=np.uint8)  # 3 -5 / 127 -127, scales 1 and 2
    bank.write_task(task_record(bank, "eight", "rotated-digits/8"), stored_parts(alpha=alpha))
    (packet,) = packets_of_task(bank, "eight", named)
    body = bytes([0b0000_0001, 1 * 3 + 0]) + alpha.tobytes()
    preprocess = '{"mode":"L","size":[1,7],"interpolation":"bilinear","mean":[0.25],"std":[0.5]}'
    told = "\n".join(["impress packet 1", bank.basis_digest(2), preprocess, *NAMES]).encode()
    assert packet == hashlib.sha256(hashlib.sha256(told).digest() + body).digest()[:4] + body
    assert len(packet) == 14


def test_settings_and_lengths_are_as_the_specification_says() -> None:
    """A head of 2 bits, 300 classes, beside a residual of 1 bit in the last 3 layers and a float16 row."""
    said = settings(residual_bits=1, residual_layers=3, head_bits=2, classes=300)
    parts: dict[str, Array] = {"head": np.zeros(200, np.uint8), "residual": np.ones(7, np.uint8)}
    expected = bytes([0b0101_0010, (3 * 5 + 1) * 3, 2 * 3, 300 & 0x7F | 0x80, 300 >> 7, 7]) + b"\1" * 7 + bytes(200)
    assert packet_body(said, parts) == expected
    halves: dict[str, Array] = {"alpha": np.ones((2, 3), dtype="<f2")}
    assert packet_body(settings(granularity=2), halves) == bytes([1, 2 * 3 + 1, 2]) + halves["alpha"].tobytes()


@given(VALUE_BITS, LARGE, VALUE_BITS, LARGE, st.sampled_from([0, 4, 8]), LARGE, st.integers(1, 1 << 24), st.data())
def test_what_is_written_is_read(
    residual: int,
    layers: int,
    head: int,
    classes: int,
    norm: int,
    deep: int,
    groups: int,
    data: st.DataObject,
) -> None:
    said = msgspec.convert(
        {
            "alpha": {"granularity": groups},
            "residual": {"bits": residual, "layers": layers},
            "head": {"bits": head},
            "classes": {"count": classes},
            "norm": {"bits": norm, "layers": deep},
        },
        Settings,
    )
    names = data.draw(st.sets(st.sampled_from([part.name for part in PARTS if part.name != "classes"]), min_size=1))
    kinds = {name: data.draw(st.sampled_from(["u1", "<f2", "<f4"])) if name == "alpha" else "u1" for name in names}
    parts: dict[str, Array] = {
        name: np.full((2, 3) if kind != "u1" else data.draw(st.integers(1, 300)), 1, dtype=kind)
        for name, kind in kinds.items()
    }
    body = packet_body(said, parts)
    read = read_packet(HERE, b"1234" + body)
    assert (read.tag, read.body) == (b"1234", body)
    assert packet_bytes(said, parts) == len(body) + 4
    assert {name: part.tolist() for name, part in read.parts.items()} == {n: p.tolist() for n, p in parts.items()}
    assert read.settings.classes.count == classes
    for name in names:
        assert getattr(read.settings, name, None) == getattr(said, name, None)


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_be_refused(content: bytes) -> None:
    if not is_packet(content):
        return
    try:
        read = read_packet(HERE, content)
    except FormatError:
        return
    assert b"1234" + packet_body(read.settings, read.parts) == b"1234" + read.body


@pytest.mark.parametrize("signed", [True, False])
def test_a_task_arrives_with_its_numbers_and_without_its_record(bank: Bank, signed: bool) -> None:
    whole, bare = packets_of_task(bank, "one", named)
    assert len(whole) - len(bare) == 65
    assert is_packet(whole)
    assert not is_packet(bank.task_bytes("one"))
    content = task_of_packet(bank, HERE, whole if signed else bare, arrived(bank, class_names=NAMES), named)
    file = bank.path.parent / "came.safetensors"
    file.write_bytes(content)
    import_tasks(bank, [file])
    (was, alpha), (now, again) = bank.read_task("one"), bank.read_task("came")
    assert (alpha == again).all()
    assert (now.fit, now.accuracy, now.train_accuracy, now.class_names) == (None, None, None, NAMES)
    assert (now.basis, now.settings, now.images) == (was.basis, was.settings, "test")
    assert (signature_of(bank, "came") == signature_of(bank, "one")) is signed


def test_every_flipped_bit_and_every_missing_byte_is_refused(bank: Bank) -> None:
    packet = packets_of_task(bank, "one", named)[-1]
    damaged = [packet[:end] for end in range(5, len(packet))] + [packet + b"\0"]
    for place in range(8 * len(packet)):
        flipped = bytearray(packet)
        flipped[place // 8] ^= 1 << place % 8
        damaged.append(bytes(flipped))
    for content in filter(is_packet, damaged):
        with pytest.raises(FormatError):
            task_of_packet(bank, HERE, content, arrived(bank), named)


def test_another_bank_and_other_class_names_are_refused(bank: Bank, tmp_path: Path) -> None:
    packet = packets_of_task(bank, "one", named)[-1]
    elsewhere = make(tmp_path / "b.impress", seed=1, task_classifier=True)
    with pytest.raises(FormatError, match="belongs to another bank"):
        task_of_packet(elsewhere, HERE, packet, arrived(elsewhere), named)
    assert bank.manifest.preprocess is not None
    seen = msgspec.structs.replace(bank.manifest.preprocess, mean=(0.5,))
    other = replace(bank, manifest=msgspec.structs.replace(bank.manifest, preprocess=seen))
    with pytest.raises(FormatError, match="belongs to another bank"):
        task_of_packet(other, HERE, packet, arrived(bank), named)
    with pytest.raises(FormatError, match="other names than dog, cat, eel"):
        task_of_packet(bank, HERE, packet, arrived(bank), lambda _: ("dog", "cat", "eel"))


def test_a_claim_of_many_classes_is_refused_before_they_are_named(bank: Bank) -> None:
    said, parts = settings(head_bits=2, classes=1 << 24), {"head": np.zeros(60, dtype=np.uint8)}

    def never(_: TaskRecord) -> tuple[str, ...]:
        raise AssertionError

    with pytest.raises(FormatError, match="no rows of 2 bits a value for 16777216 classes"):
        task_of_packet(bank, HERE, b"1234" + packet_body(said, parts), arrived(bank), never)


def test_a_task_of_unknown_making_is_packed_and_comes_back(bank: Bank) -> None:
    from impress_format.operations.pack import pack_tasks

    bank.write_task(arrived(bank, basis=bank.basis_digest(2)), stored_parts(alpha=ALPHA))
    content, record = bank.task_bytes("came"), bank.read_task_record("came")
    assert b"\nnull\n" in content
    pack_tasks(bank)
    again = open_bank(bank.path)
    assert again.task_bytes("came") == content
    assert again.read_task_record("came") == record
    assert [one.accuracy for one in again.summarise_tasks() if one.name == "came"] == [None]


def test_version_1_has_no_packets(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"
    old = open_bank(shutil.copytree(golden, tmp_path / "old.impress"))
    with pytest.raises(BankMismatch, match="format version 1, which has no packets"):
        packets_of_task(old, old.task_names()[0], named)
    with pytest.raises(BankMismatch, match="which has no packets"):
        task_of_packet(old, HERE, tag_of("0" * 32, "", (), b"\1") + b"\1", arrived(old), named)


@pytest.mark.parametrize("told", [True, False])
def test_names_that_the_bank_gave_stay_with_the_task(bank: Bank, told: bool) -> None:
    """It may travel on, to a bank that calls its classes otherwise."""
    packet = packets_of_task(bank, "one", named)[-1]
    file = bank.path.parent / "came.safetensors"
    file.write_bytes(task_of_packet(bank, HERE, packet, arrived(bank), named, told=told))
    import_tasks(bank, [file])
    assert bank.read_task_record("came").class_names == (() if told else NAMES)


@pytest.mark.parametrize(
    "body",
    [
        bytes([0b0001_0000, 7 * 3]) + bytes(40),  # a head of the bits that stand eighth among five
        bytes([0b0101_0000, 2 * 3, 0]) + bytes(40),  # a number of classes, and it is 0
        bytes([0b0000_0010, 0x80, 0x00]) + bytes(40),  # a number in more bytes than it needs
    ],
)
def test_what_no_writer_writes_is_refused(body: bytes) -> None:
    with pytest.raises(FormatError, match="neither a task's own file nor a packet"):
        read_packet(HERE, b"1234" + body)
