"""What docs/format.md demands of packets, where no other test holds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_bank
from test_packet import NAMES, arrived, named

from impress_format import verify_bank
from impress_format.bank import Bank
from impress_format.errors import FormatError, ImpressError
from impress_format.operations.exchange import import_tasks
from impress_format.operations.packets import packets_of_task, task_of_packet
from impress_format.parts.numbers import store
from impress_format.parts.own_mask import store_own_mask
from impress_format.parts.part import Array
from impress_format.parts.residual import store_residual
from impress_format.parts.table import Settings, stored_parts
from impress_format.tasks.packet import packet_body, read_packet, tag_of
from impress_format.tasks.record import TaskRecord

HERE = Path("packet")
PREPROCESS = '{"mode":"L","size":[1,7],"interpolation":"bilinear","mean":[0.25],"std":[0.5]}'


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress", task_classifier=True)


def packet_of(bank: Bank, body: bytes, masks: int = 2) -> bytes:
    """A packet of this body that has the tag of this bank."""
    return tag_of(bank.basis_digest(masks), PREPROCESS, NAMES, body) + body


def received(bank: Bank, packet: bytes) -> None:
    file = bank.path.parent / "came"
    file.write_bytes(packet)
    import_tasks(bank, [file], opened=lambda path, content: task_of_packet(bank, path, content, arrived(bank), named))


def test_a_packet_without_any_part_is_refused(bank: Bank) -> None:
    for body in (bytes([0]), bytes([0]) + bytes(40)):
        with pytest.raises(ImpressError):
            read_packet(HERE, packet_of(bank, body))
        with pytest.raises(ImpressError):
            received(bank, packet_of(bank, body))


@pytest.mark.parametrize("rest", [b"", bytes(40)])
def test_a_packet_of_a_number_of_classes_alone_is_refused(bank: Bank, rest: bytes) -> None:
    packet = packet_of(bank, bytes([0b0100_0000, 2]) + rest)
    with pytest.raises(FormatError, match="no part of a task is in it"):
        read_packet(HERE, packet)
    with pytest.raises(FormatError, match="no part of a task is in it"):
        received(bank, packet)


def test_what_a_packet_is_tried_with_is_received(bank: Bank) -> None:
    received(bank, packet_of(bank, packet_body(Settings(), stored_parts(alpha=store(small_bank.ALPHA, "int8")))))
    assert verify_bank(bank.path).ok
    assert bank.read_task_record("came").class_names == NAMES


def signature_with(bank: Bank, at: int, value: int) -> np.ndarray:
    signature = bytearray(small_bank.signature(bank))
    signature[at] = value
    return np.frombuffer(bytes(signature), dtype=np.uint8)


def int8_of(*content: int) -> np.ndarray:
    return np.array(content, dtype=np.uint8)


NAN, MINUS_ONE = 0x7E, 0xBC
ALPHA = store(small_bank.ALPHA, "int8")
LAST = np.zeros(small_bank.LAYERS[-1].shape, dtype=np.bool_)
RESIDUAL = store_residual(np.zeros(8, dtype=np.uint8), np.array([1, np.inf], dtype=np.float16), 1)

REFUSED: list[tuple[str, dict[str, Array], dict[str, int], int, str]] = [
    ("a scale that is no number", {"alpha": int8_of(1, 1, 0, 0x3C, 0, NAN)}, {}, 1, "NaN"),
    ("a scale below 0", {"alpha": int8_of(1, 1, 0, 0x3C, 0, MINUS_ONE)}, {}, 1, "negative"),
    ("-128", {"alpha": int8_of(0x80, 1, 0, 0x3C, 0, 0x3C)}, {}, 1, "-128"),
    ("an infinity", {"alpha": np.array([[np.inf, 1]], dtype=np.float16)}, {}, 1, "infinite"),
    ("more rows than masks", {"alpha": np.ones((4, 2), dtype=np.float16)}, {}, 3, "weighs 4 masks, the bank has 3"),
    ("half a column", {"alpha": int8_of(1, 1, 1, 0, 0, 0, 0)}, {}, 1, "expected float32 or float16"),
    ("a mask alone", {"mask": store_own_mask(~LAST)}, {}, 0, "expected alpha, residual, head or vote"),
    ("a mask without a one", {"alpha": ALPHA[[0, 2, 4, 5]], "mask": store_own_mask(LAST)}, {}, 2, "not a single one"),
    ("a vote beside alpha", {"alpha": ALPHA, "vote": int8_of(255, 1)}, {}, 2, "no other part"),
    ("a vote without a largest share", {"vote": int8_of(1, 2)}, {}, 2, "no share of 255"),
    ("a residual of infinite scale", {"residual": RESIDUAL}, {"residual_bits": 1}, 0, "a scale that is negative"),
    ("more classes than outputs", {"alpha": ALPHA}, {"classes": 4}, 2, "4 classes of its own"),
    ("a head without a projection", {"head": int8_of(*range(15))}, {"head_bits": 2}, 0, "projection"),
]


@pytest.mark.parametrize(
    ("parts", "declared", "masks", "words"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
)
def test_a_packet_with_the_right_tag_is_checked_as_a_file_is(
    bank: Bank, parts: dict[str, Array], declared: dict[str, int], masks: int, words: str
) -> None:
    body = packet_body(small_bank.settings(**declared), parts)
    with pytest.raises(FormatError, match=words):
        received(bank, packet_of(bank, body, masks))
    assert bank.task_names() == ["one", "two"]


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [(2, 127, "fewer than one image"), (8, 0x80, "a position of -128"), (0, None, "was not made with this bank's")],
)
def test_so_is_the_signature_in_it(bank: Bank, at: int, value: int | None, words: str) -> None:
    wrong = small_bank.signature(bank)[at] ^ 1 if value is None else value
    parts = stored_parts(alpha=ALPHA, signature=signature_with(bank, at, wrong).tobytes())
    with pytest.raises(FormatError, match=words):
        received(bank, packet_of(bank, packet_body(Settings(), parts)))
    assert bank.task_names() == ["one", "two"]


def test_classes_that_are_called_by_their_numbers_are_not_named_in_the_file(bank: Bank) -> None:
    def numbered(_: TaskRecord) -> tuple[str, ...]:
        return ("0", "1", "2")

    packet = packets_of_task(bank, "one", numbered)[-1]
    file = bank.path.parent / "came.safetensors"
    file.write_bytes(task_of_packet(bank, HERE, packet, arrived(bank), numbered))
    import_tasks(bank, [file])
    assert bank.read_task_record("came").class_names == ()
