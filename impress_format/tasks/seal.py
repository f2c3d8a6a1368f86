"""A task's file, sealed: the text of its record, its parts, and the checksum of both at a fixed place.

Version 2 has two forms. Files are written in the short one (short.py). The long one, with the text in the header and an
entry there for each part, is what was written before; files and packs that have it are read, and keep it.
"""

from __future__ import annotations

from pathlib import Path

from impress_format.container.header import Header, in_file_order, write_header
from impress_format.container.sealed_file import (
    BLANK,
    DIGEST_DIGITS,
    check_digest,
    check_size,
    checksum,
    put_checksum,
    seal_tensors,
    unseal_record,
)
from impress_format.errors import FormatError
from impress_format.limits import MAX_TASK_BYTES
from impress_format.parts.part import Tensor
from impress_format.tasks.record import TaskRecord, TaskRecordV1, version_1
from impress_format.tasks.short import (
    DIGEST_BYTES,
    Tensors,
    beginning,
    checksum_bytes,
    digest_start,
    is_short,
    short_file,
)
from impress_format.tasks.text import START, TaskText, read_text, write_text

_TEXT_STARTS = 8 + len(rb'{"__metadata__":{"impress":"[\"')


def version_of_text(text: bytes) -> int:
    """The format version of a task's file, by the record in its header."""
    return 2 if text.startswith(START) else 1


def seal_short(path: Path, text: TaskText, tensors: Tensors) -> bytes:
    """The bytes of a task's file. Equal inputs give equal bytes.

    Raises:
        UsageError: a file too large: no reader would take it.
        FormatError: a text or a part that no file holds.
    """
    content = short_file(path, text, bytes(DIGEST_BYTES), tensors)
    check_size("TaskRecord", content, MAX_TASK_BYTES)
    start = digest_start(content)
    return content[:start] + checksum_bytes(content) + content[start + DIGEST_BYTES :]


def seal_long(text: TaskText, tensors: Tensors) -> bytes:
    """The bytes of a task's file in its long form.

    Raises:
        UsageError: a file too large.
    """
    content = long_file(text, BLANK, tensors)
    return put_checksum("TaskRecord", content, _TEXT_STARTS, MAX_TASK_BYTES)


def long_file(text: TaskText, digest: bytes, tensors: Tensors) -> bytes:
    """A file in its long form, with this checksum.

    Raises:
        UnicodeError: the text is none.
    """
    return write_header(text.sealed(digest), tensors) + b"".join(tensor.tobytes() for tensor in tensors.values())


def seal_version_1(record: TaskRecord, tensors: Tensors) -> bytes:
    """The bytes of a task's file as format version 1 has it.

    Raises:
        UsageError: a value out of its range, or a file too large.
    """
    return seal_tensors(version_1(record), tensors)


def record_of_task(path: Path, content: bytes, header: Header) -> TaskRecord:
    """The record of a task's file of either version and form; the file's checksum is checked.

    Args:
        header: of this file (short.parse_task).

    Raises:
        FormatError: no such record, or wrong checksum.
    """
    if version_of_text(header.record) == 1:
        return unseal_record(path, content, header.record, TaskRecordV1).newest()
    if is_short(content):
        record = read_text(path, header.record, compared=True)
        _check_short(path, content, header, record)
        return record
    record = read_text(path, header.record)
    check_digest(path, content, _TEXT_STARTS, record.digest)
    return record


def digest_of_task(content: bytes) -> bytes:
    """The 16 bytes of the checksum written in a task's file of version 2."""
    if is_short(content):
        start = digest_start(content)
        return content[start : start + DIGEST_BYTES]
    return bytes.fromhex(content[_TEXT_STARTS : _TEXT_STARTS + DIGEST_DIGITS].decode())


def check_text_seal(path: Path, name: str, content: bytes) -> None:
    """Check the checksum of a task's file whose text is known to be one.

    Raises:
        FormatError: it is another.
    """
    if is_short(content):
        same = digest_of_task(content) == checksum_bytes(content)
    else:
        same = content[_TEXT_STARTS : _TEXT_STARTS + DIGEST_DIGITS] == checksum(content, _TEXT_STARTS)
    if not same:
        raise FormatError(path, f"task {name} is damaged: its bytes give another checksum than the one written in it")


def _check_short(path: Path, content: bytes, header: Header, record: TaskRecord) -> None:
    """Check that a file is what a writer makes of what is read from it, but for the parts; and its checksum."""
    expected = checksum_bytes(content)
    if digest_of_task(content) != expected:
        raise FormatError(path, f"is damaged: its bytes give checksum {expected.hex()}, not the one written in it")
    parts = in_file_order({name: Tensor(tensor.numpy, tensor.shape) for name, tensor in header.tensors.items()})
    size = len(content) - header.start
    if content[: header.start] != beginning(path, write_text(record), expected, parts, size):
        raise FormatError(path, "holds a record or a list of parts that is not written as a writer writes it")
