"""Sealed files: a record and tensors in one safetensors file, or a record in one JSON file.

All carry their own checksum, so that every changed bit is noticed: the first 32 hex digits of the SHA-256 of
the whole file, taken with those 32 digits set to "0". They stand in the record's last field, `digest`: in a
safetensors file where `\\"digest\\":\\"` first occurs, in a JSON file where `"digest": "` last occurs. The record of a
task of version 2 (seal.py) begins with it, at a fixed place of the file.

One metadata key only: with several, safetensors writes them in varying order and equal contents would give
different bytes.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, cast

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors.numpy

from impress_format.container.header import METADATA_KEY, parse_header, read_tensors
from impress_format.container.strict_json import decode_strictly
from impress_format.disk.files import read_limited
from impress_format.errors import FormatError, UsageError
from impress_format.limits import MAX_HEADER_BYTES, MAX_TEXT

Array = npt.NDArray[np.generic]

DIGEST_DIGITS = 32
BLANK = b"0" * DIGEST_DIGITS
_DIGEST_IN_METADATA = rb"\"digest\":\""
_DIGEST_IN_JSON = b'"digest": "'


class Sealed(Protocol):
    """A record that a file may hold: a frozen msgspec.Struct."""

    max_bytes: ClassVar[int]

    @property
    def digest(self) -> str: ...


R = TypeVar("R", bound=Sealed)


def seal_tensors(record: R, tensors: Mapping[str, Array]) -> bytes:
    """The bytes of a safetensors file holding `record` in its metadata. Equal inputs give equal bytes.

    Raises:
        UsageError: a value out of its range, or a file too large: no reader would take it.
    """
    text = _encode(record).decode()
    content = safetensors.numpy.save(dict(tensors), metadata={METADATA_KEY: text})
    start = content.find(_DIGEST_IN_METADATA) + len(_DIGEST_IN_METADATA)
    return put_checksum(type(record).__name__, content, start, record.max_bytes)


def unseal_tensors(
    path: Path, record_type: type[R], limit: int, content: bytes | None = None
) -> tuple[R, dict[str, Array]]:
    """Read what seal_tensors wrote, checking everything that does not depend on the bank.

    The tensors are views of the file's bytes and cannot be written to.

    Args:
        content: the bytes that are to be in the file; None to read it.

    Raises:
        FormatError: missing, too large, not safetensors, wrong checksum, or a record of another form.
    """
    content = read_limited(path, limit) if content is None else content
    header = parse_header(path, content)
    return unseal_record(path, content, header.record, record_type), read_tensors(content, header)


def read_record(path: Path, record_type: type[R], limit: int) -> R:
    """Only the record of a sealed safetensors file; its checksum covers the whole file and is checked."""
    content = read_limited(path, limit)
    return unseal_record(path, content, parse_header(path, content).record, record_type)


def check_sealed(path: Path, content: bytes | mmap.mmap, record_type: type[R]) -> R:
    """The record of a whole safetensors file that may be larger than memory; its checksum is checked.

    Raises:
        FormatError: no such record, or wrong checksum.
    """
    header = parse_header(path, content[: 8 + MAX_HEADER_BYTES], len(content))
    record = decode_record(path, header.record, record_type)
    check_digest(path, content, content.find(_DIGEST_IN_METADATA) + len(_DIGEST_IN_METADATA), record.digest)
    return record


def seal_json(record: R) -> bytes:
    """The bytes of a JSON file: two spaces of indent, one line break at the end.

    Raises:
        UsageError: a value out of its range, or a file too large: no reader would take it.
    """
    content = msgspec.json.format(_encode(record), indent=2) + b"\n"
    start = content.rfind(_DIGEST_IN_JSON) + len(_DIGEST_IN_JSON)
    return put_checksum(type(record).__name__, content, start, record.max_bytes)


def unseal_json(path: Path, content: bytes, record_type: type[R]) -> R:
    """Read what seal_json wrote.

    Raises:
        FormatError: no such record, or wrong checksum.
    """
    record = decode_record(path, content, record_type)
    check_digest(path, content, content.rfind(_DIGEST_IN_JSON) + len(_DIGEST_IN_JSON), record.digest)
    return record


def unseal_record(path: Path, content: bytes, text: bytes, record_type: type[R]) -> R:
    """The record in a file's metadata; the file's checksum is checked.

    Raises:
        FormatError: no such record, or wrong checksum.
    """
    record = decode_record(path, text, record_type)
    check_digest(path, content, content.find(_DIGEST_IN_METADATA) + len(_DIGEST_IN_METADATA), record.digest)
    return record


def _encode(record: R) -> bytes:
    """The record with a blank checksum, after a check that it can be decoded again."""
    text = msgspec.json.encode(msgspec.structs.replace(cast("Any", record), digest=BLANK.decode()))
    try:
        msgspec.json.decode(text, type=type(record))
    except msgspec.ValidationError as error:
        raise UsageError(f"{type(record).__name__} cannot be stored: {error}") from error
    return text


def decode_record(path: Path, text: bytes, record_type: type[R]) -> R:
    """The record in a file's metadata; its checksum is not looked at.

    Raises:
        FormatError: it is none.
    """
    try:
        record: R = decode_strictly(
            path,
            text,
            lambda given: msgspec.json.decode(given, type=record_type),
            msgspec.json.encode,
            longest=4 * MAX_TEXT,
        )
        return record
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FormatError(path, f"holds no valid {record_type.__name__} ({error})") from error


def put_checksum(what: str, content: bytes, start: int, most: int) -> bytes:
    """The file with its checksum at `start`, where blank digits stand.

    Args:
        what: the file holds, for people.
        most: bytes that are read again.

    Raises:
        UsageError: it has more.
    """
    check_size(what, content, most)
    return content[:start] + checksum(content, start) + content[start + DIGEST_DIGITS :]


def check_size(what: str, content: bytes, most: int) -> None:
    """Refuse to store a file that no reader would take.

    Args:
        what: the file holds, for people.
        most: bytes that are read again.

    Raises:
        UsageError: it has more.
    """
    if len(content) > most:
        raise UsageError(
            f"{what} cannot be stored: its file would have {len(content):,} bytes, at most {most:,} are read again"
        )


def check_digest(path: Path, content: bytes | mmap.mmap, start: int, digest: str) -> None:
    """Check the checksum of a file, which must stand at `start` and be the record's `digest`.

    Raises:
        FormatError: it does not, or the bytes give another.
    """
    written = content[start : start + DIGEST_DIGITS]
    if len(digest) != DIGEST_DIGITS or written != digest.encode():  # the field may be missing, or written otherwise
        raise FormatError(path, "holds no checksum where one must be")
    expected = checksum(content, start)
    if written != expected:
        raise FormatError(path, f"is damaged: its bytes give checksum {expected.decode()}, not the one written in it")


def checksum(content: bytes | mmap.mmap, start: int) -> bytes:
    """The checksum of a file that has it at `start`: 32 hex digits."""
    with memoryview(content) as view:
        digest = hashlib.sha256(view[:start])
        digest.update(BLANK)
        digest.update(view[start + DIGEST_DIGITS :])
    return digest.hexdigest()[:DIGEST_DIGITS].encode()
