"""Sealed files: a record and tensors in one safetensors file, or a record in one JSON file.

Both carry their own checksum, so that every changed bit is noticed: the first 32 hex digits of the SHA-256 of
the whole file, taken with those 32 digits set to "0". They stand in the record's last field, `digest`: in a
safetensors file where `\\"digest\\":\\"` first occurs, in a JSON file where `"digest": "` last occurs.

One metadata key only: with several, safetensors writes them in varying order and equal contents would give
different bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from impress_format.errors import FormatError
from impress_format.files import read_limited

Array = npt.NDArray[np.generic]

_METADATA_KEY = "impress"
DIGEST_DIGITS = 32
_BLANK = b"0" * DIGEST_DIGITS
_DIGEST_IN_METADATA = rb"\"digest\":\""
_DIGEST_IN_JSON = b'"digest": "'
_MAX_HEADER = 1 << 24


R = TypeVar("R", bound=msgspec.Struct)


def seal_tensors(record: msgspec.Struct, tensors: Mapping[str, Array]) -> bytes:
    """The bytes of a safetensors file holding `record` in its metadata. Equal inputs give equal bytes."""
    text = msgspec.json.encode(msgspec.structs.replace(record, digest=_BLANK.decode())).decode()
    return _seal(safetensors.numpy.save(dict(tensors), metadata={_METADATA_KEY: text}), _DIGEST_IN_METADATA)


def unseal_tensors(path: Path, record_type: type[R], limit: int) -> tuple[R, dict[str, Array]]:
    """Read what seal_tensors wrote, checking everything that does not depend on the bank.

    Raises:
        FormatError: missing, too large, not safetensors, wrong checksum, or a record of another form.
    """
    content = read_limited(path, limit)
    record = _record(path, content, record_type)
    try:
        tensors = dict(safetensors.numpy.load(content))
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise FormatError(path, f"is not a safetensors file ({error})") from error
    return record, tensors


def read_record(path: Path, record_type: type[R], limit: int) -> R:
    """Only the record of a sealed safetensors file; its checksum covers the whole file and is checked."""
    return _record(path, read_limited(path, limit), record_type)


def seal_json(record: msgspec.Struct) -> bytes:
    """The bytes of a JSON file: two spaces of indent, one line break at the end."""
    text = msgspec.json.encode(msgspec.structs.replace(record, digest=_BLANK.decode()))
    return _seal(msgspec.json.format(text, indent=2) + b"\n", _DIGEST_IN_JSON)


def unseal_json(path: Path, content: bytes, record_type: type[R]) -> R:
    """Read what seal_json wrote.

    Raises:
        FormatError: no such record, or wrong checksum.
    """
    record = _decode(path, content, record_type)
    _check_digest(path, content, _DIGEST_IN_JSON)
    return record


def _record(path: Path, content: bytes, record_type: type[R]) -> R:
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(len(content) - 8, _MAX_HEADER):
        raise FormatError(path, "is not a safetensors file (cut short or damaged)")
    try:
        header = msgspec.json.decode(content[8 : 8 + size], type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(path, f"is not a safetensors file ({error})") from error
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or set(metadata) != {_METADATA_KEY}:
        raise FormatError(path, f"is not a file of a bank: expected one metadata key, {_METADATA_KEY!r}")
    record = _decode(path, str(metadata[_METADATA_KEY]).encode(), record_type)
    _check_digest(path, content, _DIGEST_IN_METADATA)
    return record


def _decode(path: Path, content: bytes, record_type: type[R]) -> R:
    try:
        return msgspec.json.decode(content, type=record_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(path, f"holds no valid {record_type.__name__} ({error})") from error


def _seal(content: bytes, marker: bytes) -> bytes:
    start = _digest_start(content, marker)
    return content[:start] + _checksum(content, start) + content[start + DIGEST_DIGITS :]


def _check_digest(path: Path, content: bytes, marker: bytes) -> None:
    start = _digest_start(content, marker)
    written, found = content[start : start + DIGEST_DIGITS], _checksum(content, start)
    if written != found:
        raise FormatError(path, f"is damaged: its bytes give checksum {found.decode()}, not the one written in it")


def _digest_start(content: bytes, marker: bytes) -> int:
    found = content.find(marker) if marker is _DIGEST_IN_METADATA else content.rfind(marker)
    return found + len(marker)


def _checksum(content: bytes, start: int) -> bytes:
    digest = hashlib.sha256(content[:start])
    digest.update(_BLANK)
    digest.update(content[start + DIGEST_DIGITS :])
    return digest.hexdigest()[:DIGEST_DIGITS].encode()
