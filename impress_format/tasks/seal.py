"""A task's file, sealed: the text of its record, its parts, and the checksum of both at a fixed place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from impress_format.container.header import write_header
from impress_format.container.sealed_file import (
    BLANK,
    DIGEST_DIGITS,
    check_digest,
    checksum,
    put_checksum,
    seal_tensors,
    unseal_record,
)
from impress_format.errors import FormatError
from impress_format.limits import MAX_TASK_BYTES
from impress_format.tasks.record import TaskRecord, TaskRecordV1, version_1
from impress_format.tasks.text import START, TaskText, read_text

_TEXT_STARTS = 8 + len(rb'{"__metadata__":{"impress":"[\"')

Tensors = Mapping[str, npt.NDArray[np.generic]]


def version_of_text(text: bytes) -> int:
    """The format version of a task's file, by the record in its header."""
    return 2 if text.startswith(START) else 1


def seal_text(text: TaskText, tensors: Tensors) -> bytes:
    """The bytes of a task's file. Equal inputs give equal bytes.

    Raises:
        UsageError: a file too large: no reader would take it.
    """
    content = write_header(text.sealed(BLANK), tensors) + b"".join(tensor.tobytes() for tensor in tensors.values())
    return put_checksum("TaskRecord", content, _TEXT_STARTS, MAX_TASK_BYTES)


def seal_version_1(record: TaskRecord, tensors: Tensors) -> bytes:
    """The bytes of a task's file as format version 1 has it.

    Raises:
        UsageError: a value out of its range, or a file too large.
    """
    return seal_tensors(version_1(record), tensors)


def record_of_task(path: Path, content: bytes, text: bytes) -> TaskRecord:
    """The record of a task's file of either version; the file's checksum is checked.

    Raises:
        FormatError: no such record, or wrong checksum.
    """
    if version_of_text(text) == 1:
        return unseal_record(path, content, text, TaskRecordV1).newest()
    record = read_text(path, text)
    check_digest(path, content, _TEXT_STARTS, record.digest)
    return record


def digest_of_task(content: bytes) -> bytes:
    """The 16 bytes of the checksum written in a task's file of version 2."""
    return bytes.fromhex(content[_TEXT_STARTS : _TEXT_STARTS + DIGEST_DIGITS].decode())


def check_text_seal(path: Path, name: str, content: bytes) -> None:
    """Check the checksum of a task's file whose text is known to be one.

    Raises:
        FormatError: it is another.
    """
    if content[_TEXT_STARTS : _TEXT_STARTS + DIGEST_DIGITS] != checksum(content, _TEXT_STARTS):
        raise FormatError(path, f"task {name} is damaged: its bytes give another checksum than the one written in it")
