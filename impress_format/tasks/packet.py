"""A task as a packet, for links of a few dozen bytes: its parts, and nothing that the other side can say itself.

    TAG PARTS, for each part its settings, for each but the last its length, the parts one after the other

TAG is four bytes of a digest over the basis that the task stands on, the names of its classes, and all that follows it:
a packet that was damaged, or comes to another bank, or meets other classes, is refused. PARTS has a bit for each part,
in the order of the table of parts. All numbers are LEB128 (docs/format.md, Packets).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from impress_format.errors import FormatError
from impress_format.parts.class_names import CLASSES
from impress_format.parts.part import Array, Part
from impress_format.parts.table import PARTS, Settings, settings_of

TAG_BYTES = 4
_SALT = "impress packet 1"
_LONGEST_NUMBER = 5
_NEITHER = "is neither a task's own file nor a packet"
_TYPES = (np.dtype(np.uint8), np.dtype("<f2"), np.dtype("<f4"))


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """What a packet holds.

    Attributes:
        tag: as it has it; `tag_of` makes the one that it must have.
        body: all that follows the tag.
        settings: of the parts.
        parts: as they are stored, by name.
    """

    tag: bytes
    body: bytes
    settings: Settings
    parts: Mapping[str, Array]


def is_packet(content: bytes) -> bool:
    """Whether this is a packet, and no task's own file, whose fifth byte is one of the 64 bits of a small length."""
    return len(content) > TAG_BYTES and content[TAG_BYTES] != 0


def tag_of(basis: str, seen: str, names: Sequence[str], body: bytes) -> bytes:
    """The tag of a packet.

    Args:
        basis: the whole digest that the task's record begins with.
        seen: how the bank's network sees images: `preprocess` as JSON, and the digest of the calibration.
        names: of its classes in the order of the outputs, those that have none by their numbers.
    """
    told = "\n".join([_SALT, basis, seen, *names]).encode()
    return hashlib.sha256(hashlib.sha256(told).digest() + body).digest()[:TAG_BYTES]


def packet_body(settings: Settings, parts: Mapping[str, Array]) -> bytes:
    """All of a packet but its tag.

    Args:
        parts: as they are stored, by name; names of classes among them do not travel.
    """
    sent = [part for part in PARTS if part.name in parts and part is not CLASSES]
    counted = part_bit(CLASSES) if settings.classes.count else 0
    head = bytes([sum(map(part_bit, sent)) | counted])
    for part in PARTS:
        if part in sent and (own := settings_of(part, settings)) is not None:
            head += _described(own, parts[part.name])
        elif part is CLASSES and counted:
            head += _number(settings.classes.count)
    head += b"".join(_number(parts[part.name].nbytes) for part in sent[:-1])
    return head + b"".join(np.ascontiguousarray(parts[part.name]).tobytes() for part in sent)


def read_packet(path: Path, content: bytes) -> Packet:
    """What is in a packet; whether its tag is right is for the bank to say.

    Raises:
        FormatError: it is none.
    """
    body, reader = content[TAG_BYTES:], _Reader(path, content, TAG_BYTES + 1)
    present = [part for part in PARTS if content[TAG_BYTES] & part_bit(part)]
    declared, kinds = dict[str, dict[str, object]](), dict[str, tuple[int, int]]()
    for part in present:
        if (own := settings_of(part, Settings())) is None:
            continue
        if part is CLASSES:
            declared[part.name] = {"count": reader.number()}
            continue
        rest, kind = divmod(reader.number(), len(_TYPES))
        declared[part.name] = _fields_of(type(own), rest)
        kinds[part.name] = (kind, reader.number() if kind else 0)
    sent = [part for part in present if part is not CLASSES]
    if not sent:
        raise FormatError(path, f"{_NEITHER}: no part of a task is in it")
    lengths = [reader.number() for _ in sent[:-1]]
    lengths.append(len(content) - reader.at - sum(lengths))
    parts = {
        part.name: reader.part(size, *kinds.get(part.name, (0, 0))) for part, size in zip(sent, lengths, strict=True)
    }
    try:
        settings = msgspec.convert(declared, Settings)
    except msgspec.ValidationError as error:
        raise FormatError(path, f"{_NEITHER}: no task has such settings ({error})") from error
    if packet_body(settings, parts) != body:
        raise FormatError(path, f"{_NEITHER}: it is not written as a writer writes what it says")
    return Packet(content[:TAG_BYTES], body, settings, parts)


def part_bit(part: Part[Any, Any]) -> int:
    """The bit that says that a packet has this part."""
    return 1 << PARTS.index(part)


def _described(settings: msgspec.Struct, stored: Array) -> bytes:
    """A part's settings and type in one number; of numbers that are no row of bytes also how many rows they have."""
    kind = _TYPES.index(stored.dtype)
    rows = _number(stored.shape[0]) if kind else b""
    return _number(_place_of(settings) * len(_TYPES) + kind) + rows


def _place_of(settings: msgspec.Struct) -> int:
    """The number of these settings among all of their kind: fields with few values turn fastest."""
    free, place, choices = 0, 0, 1
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if (among := _choices(field.type)) is None:
            free = value
        else:
            place, choices = place + choices * among.index(value), choices * len(among)
    return place + choices * free


def _fields_of(settings: type[msgspec.Struct], place: int) -> dict[str, object]:
    """What `_place_of` made the number of."""
    fields, found, free = msgspec.structs.fields(settings), dict[str, object](), None
    for field in fields:
        if (among := _choices(field.type)) is None:
            free = field.name
        else:
            place, index = divmod(place, len(among))
            found[field.name] = among[index]
    if free is not None:
        found[free] = place
    return found


def _choices(kind: Any) -> tuple[Any, ...] | None:
    """The values of a field that has few; None of one that has any number, of which settings have one at most."""
    values = get_args(kind)
    return None if not values or isinstance(values[0], type) else values


def _number(value: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the eighth set in all but the last."""
    low = value & 0x7F
    return bytes([low]) if value < 0x80 else bytes([low | 0x80]) + _number(value >> 7)


@dataclass(slots=True)
class _Reader:
    """Reads numbers and parts one after the other."""

    path: Path
    content: bytes
    at: int

    def number(self) -> int:
        value = 0
        for index in range(_LONGEST_NUMBER):
            if self.at >= len(self.content):
                break
            byte = self.content[self.at]
            self.at += 1
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                if byte == 0 and index:
                    break
                return value
        raise FormatError(self.path, f"{_NEITHER}: no valid number ends at byte {self.at}")

    def part(self, size: int, kind: int, rows: int) -> npt.NDArray[np.generic]:
        if size < 1 or self.at + size > len(self.content):
            raise FormatError(self.path, f"{_NEITHER}: a part of {size:,} bytes at byte {self.at}")
        stored = self.content[self.at : self.at + size]
        self.at += size
        dtype = _TYPES[kind]
        if not kind:
            return np.frombuffer(stored, dtype=dtype)
        if rows < 1 or size % (rows * dtype.itemsize):
            raise FormatError(self.path, f"{_NEITHER}: a part of {size:,} bytes in {rows:,} rows of {dtype}")
        return np.frombuffer(stored, dtype=dtype).reshape(rows, -1)


def packet_bytes(settings: Settings, parts: Mapping[str, Array]) -> int:
    """Bytes of the packet of a task."""
    return TAG_BYTES + len(packet_body(settings, parts))
