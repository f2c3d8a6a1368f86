"""Sealed files: a record and tensors in one safetensors file, or a record in one JSON file.

All carry their own checksum, so that every changed bit is noticed: the first 32 hex digits of the SHA-256 of
the whole file, taken with those 32 digits set to "0". They stand in the record's last field, `digest`: in a
safetensors file where `\\"digest\\":\\"` first occurs, in a JSON file where `"digest": "` last occurs. The record of a
task of version 2 (task_text.py) begins with it, at a fixed place of the file.

One metadata key only: with several, safetensors writes them in varying order and equal contents would give
different bytes.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors.numpy

from impress_format.errors import FormatError, UsageError
from impress_format.files import read_limited
from impress_format.header import METADATA_KEY, parse_header, read_tensors, write_header
from impress_format.limits import MAX_HEADER_BYTES, MAX_TEXT
from impress_format.records import (
    BankManifest,
    CalibrationRecord,
    ManifestV1,
    MaskRecord,
    PackRecord,
    ProjectionRecord,
    RecogniserRecord,
    TaskRecord,
)
from impress_format.strict_json import decode_strictly
from impress_format.task_text import START, TaskText, read_text

Array = npt.NDArray[np.generic]

DIGEST_DIGITS = 32
_BLANK = b"0" * DIGEST_DIGITS
_DIGEST_IN_METADATA = rb"\"digest\":\""
_DIGEST_IN_JSON = b'"digest": "'
_TEXT_STARTS = 8 + len(rb'{"__metadata__":{"impress":"[\"')

R = TypeVar(
    "R",
    BankManifest,
    ManifestV1,
    MaskRecord,
    TaskRecord,
    CalibrationRecord,
    RecogniserRecord,
    ProjectionRecord,
    PackRecord,
)


def seal_tensors(record: R, tensors: Mapping[str, Array]) -> bytes:
    """The bytes of a safetensors file holding `record` in its metadata. Equal inputs give equal bytes.

    Raises:
        UsageError: a value out of its range, or a file too large: no reader would take it.
    """
    text = _encode(record).decode()
    content = safetensors.numpy.save(dict(tensors), metadata={METADATA_KEY: text})
    return _seal(type(record), content, content.find(_DIGEST_IN_METADATA) + len(_DIGEST_IN_METADATA))


def unseal_tensors(path: Path, record_type: type[R], limit: int) -> tuple[R, dict[str, Array]]:
    """Read what seal_tensors wrote, checking everything that does not depend on the bank.

    The tensors are views of the file's bytes and cannot be written to.

    Raises:
        FormatError: missing, too large, not safetensors, wrong checksum, or a record of another form.
    """
    content = read_limited(path, limit)
    header = parse_header(path, content)
    return _record(path, content, header.record, record_type), read_tensors(content, header)


def read_record(path: Path, record_type: type[R], limit: int) -> R:
    """Only the record of a sealed safetensors file; its checksum covers the whole file and is checked."""
    content = read_limited(path, limit)
    return _record(path, content, parse_header(path, content).record, record_type)


def seal_text(text: TaskText, tensors: Mapping[str, Array]) -> bytes:
    """The bytes of a task's file. Equal inputs give equal bytes.

    Raises:
        UsageError: a file too large: no reader would take it.
    """
    content = write_header(text.sealed(_BLANK), tensors) + b"".join(tensor.tobytes() for tensor in tensors.values())
    return _seal(TaskRecord, content, _TEXT_STARTS)


def check_sealed(path: Path, content: bytes | mmap.mmap, record_type: type[R]) -> R:
    """The record of a whole safetensors file that may be larger than memory; its checksum is checked.

    Raises:
        FormatError: no such record, or wrong checksum.
    """
    header = parse_header(path, content[: 8 + MAX_HEADER_BYTES], len(content))
    record = decode_record(path, header.record, record_type)
    _check_digest(path, content, content.find(_DIGEST_IN_METADATA) + len(_DIGEST_IN_METADATA), record.digest)
    return record


def digest_of_task(content: bytes) -> bytes:
    """The 16 bytes of the checksum written in a task's file of version 2."""
    return bytes.fromhex(content[_TEXT_STARTS : _TEXT_STARTS + DIGEST_DIGITS].decode())


def check_text_seal(path: Path, name: str, content: bytes) -> None:
    """Check the checksum of a task's file whose text is known to be one.

    Raises:
        FormatError: it is another.
    """
    if content[_TEXT_STARTS : _TEXT_STARTS + DIGEST_DIGITS] != _checksum(content, _TEXT_STARTS):
        raise FormatError(path, f"task {name} is damaged: its bytes give another checksum than the one written in it")


def record_of_task(path: Path, content: bytes, text: bytes) -> TaskRecord:
    """The record of a task's file of either version; the file's checksum is checked.

    Raises:
        FormatError: no such record, or wrong checksum.
    """
    if not text.startswith(START):
        record = _record(path, content, text, TaskRecord)
        for name in ("residual_bits", "head_bits", "residual_layers", "classes", "class_names"):
            if getattr(record, name):
                raise FormatError(path, f"has {name}, which format version 1 does not know")
        return record
    record = read_text(path, text)
    _check_digest(path, content, _TEXT_STARTS, record.digest)
    return record


def seal_json(record: R) -> bytes:
    """The bytes of a JSON file: two spaces of indent, one line break at the end.

    Raises:
        UsageError: a value out of its range, or a file too large: no reader would take it.
    """
    content = msgspec.json.format(_encode(record), indent=2) + b"\n"
    return _seal(type(record), content, content.rfind(_DIGEST_IN_JSON) + len(_DIGEST_IN_JSON))


def unseal_json(path: Path, content: bytes, record_type: type[R]) -> R:
    """Read what seal_json wrote.

    Raises:
        FormatError: no such record, or wrong checksum.
    """
    record = decode_record(path, content, record_type)
    _check_digest(path, content, content.rfind(_DIGEST_IN_JSON) + len(_DIGEST_IN_JSON), record.digest)
    return record


def _record(path: Path, content: bytes, text: bytes, record_type: type[R]) -> R:
    record = decode_record(path, text, record_type)
    _check_digest(path, content, content.find(_DIGEST_IN_METADATA) + len(_DIGEST_IN_METADATA), record.digest)
    return record


def _encode(record: R) -> bytes:
    """The record with a blank checksum, after a check that it can be decoded again."""
    text = msgspec.json.encode(msgspec.structs.replace(record, digest=_BLANK.decode()))
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


def _seal(record_type: type[R], content: bytes, start: int) -> bytes:
    if len(content) > record_type.max_bytes:
        raise UsageError(
            f"{record_type.__name__} cannot be stored: its file would have {len(content):,} bytes, at most "
            f"{record_type.max_bytes:,} are read again"
        )
    return content[:start] + _checksum(content, start) + content[start + DIGEST_DIGITS :]


def _check_digest(path: Path, content: bytes | mmap.mmap, start: int, digest: str) -> None:
    written = content[start : start + DIGEST_DIGITS]
    if len(digest) != DIGEST_DIGITS or written != digest.encode():  # the field may be missing, or written otherwise
        raise FormatError(path, "holds no checksum where one must be")
    expected = _checksum(content, start)
    if written != expected:
        raise FormatError(path, f"is damaged: its bytes give checksum {expected.decode()}, not the one written in it")


def _checksum(content: bytes | mmap.mmap, start: int) -> bytes:
    with memoryview(content) as view:
        digest = hashlib.sha256(view[:start])
        digest.update(_BLANK)
        digest.update(view[start + DIGEST_DIGITS :])
    return digest.hexdigest()[:DIGEST_DIGITS].encode()
