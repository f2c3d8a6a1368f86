"""A task's file as it is written today: a header that says only how long it is, and all else in one row of bytes.

    digest, basis, OWN line, SHARED line, PARTS line, the parts one after the other

OWN and SHARED are the two halves of the record's text (text.py), without a name that the reference makes and without
the basis, which stands before them as bytes. PARTS says which parts there are: `a36s64` is an alpha of 36 bytes and a
signature of 64, `a2x10f` an alpha of float32. In the form that was written before (seal.py) every part has an entry
in the header, about 60 bytes each, and every quote in the text takes two.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from impress_format.container.header import METADATA_KEY, Header, header_of, parse_header
from impress_format.errors import FormatError
from impress_format.parts.part import Tensor
from impress_format.parts.table import BY_LETTER, BY_NAME
from impress_format.tasks.text import BASIS_DIGITS, DIGITS, TaskText

Tensors = Mapping[str, npt.NDArray[np.generic]]

DIGEST_BYTES = DIGITS // 2
_BASIS_BYTES = BASIS_DIGITS // 2
_MARK = b'{"__metadata__":{"%s":"2"}' % METADATA_KEY.encode()
_MOST_TEXT = 1 << 16
"""Bytes of the three lines together, which are looked for before they are read."""
_NAMELESS = b",null"
_SHARED_BASIS = re.compile(rb'"([0-9a-f]{%d})",' % BASIS_DIGITS)
_ENTRY = re.compile(rb"([a-z])([1-9][0-9]{0,8})(?:x([1-9][0-9]{0,8})([ef]))?")
_TYPES = {b"e": "F16", b"f": "F32"}
_TYPE_LETTERS = {np.dtype("<f2"): "e", np.dtype("<f4"): "f"}


def is_short(content: bytes) -> bool:
    """Whether a task's file has this form."""
    return content[8 : 8 + len(_MARK)] == _MARK


def parse_task(path: Path, content: bytes) -> Header:
    """The header of a task's file of either form, as the longer one has it: its text, and where its parts are.

    Raises:
        FormatError: the file is cut short, or of neither form.
    """
    return _parse(path, content) if is_short(content) else parse_header(path, content)


def digest_start(content: bytes) -> int:
    """Where in a file of this form its checksum stands."""
    return 8 + int.from_bytes(content[:8], "little")


def checksum_bytes(content: bytes) -> bytes:
    """The checksum of a file of this form: the same digits as in others, as bytes."""
    start = digest_start(content)
    digest = hashlib.sha256(content[:start])
    digest.update(bytes(DIGEST_BYTES))
    digest.update(memoryview(content)[start + DIGEST_BYTES :])
    return digest.digest()[:DIGEST_BYTES]


def short_file(path: Path, text: TaskText, digest: bytes, parts: Tensors) -> bytes:
    """A file of this form.

    Args:
        digest: its checksum, 16 bytes.
        parts: in the order of the file.

    Raises:
        FormatError: a text or a part that no such file holds.
    """
    shapes = {name: Tensor(part.dtype, part.shape) for name, part in parts.items()}
    size = sum(part.nbytes for part in parts.values())
    return beginning(path, text, digest, shapes, size) + b"".join(part.tobytes() for part in parts.values())


def beginning(path: Path, text: TaskText, digest: bytes, parts: Mapping[str, Tensor], size: int) -> bytes:
    """All that stands before the parts, which take `size` bytes.

    Raises:
        FormatError: as short_file.
    """
    basis = _SHARED_BASIS.match(text.shared_bytes)
    if basis is None:
        raise FormatError(path, "holds no valid TaskRecord (no basis)")
    lines = [
        text.own.removesuffix(_NAMELESS),
        text.shared_bytes[basis.end() :],
        "".join(_entry(path, name, part) for name, part in parts.items()).encode(),
    ]
    start = digest + bytes.fromhex(basis[1].decode()) + b"".join(line + b"\n" for line in lines)
    return _header(len(start) + size) + start


def _header(size: int) -> bytes:
    """The header of a file whose one tensor takes so many bytes. No padding: nothing after it needs to be aligned."""
    header = b'%s,"":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (_MARK, size, size)
    return len(header).to_bytes(8, "little") + header


def _parse(path: Path, content: bytes) -> Header:
    start = digest_start(content)
    if content[:start] != _header(len(content) - start):
        raise FormatError(path, f"has another header than a task of {len(content):,} bytes (cut short or damaged)")
    first = start + DIGEST_BYTES + _BASIS_BYTES
    lines = content[first : first + _MOST_TEXT].split(b"\n", 3)
    if len(lines) < 4:
        raise FormatError(path, f"holds no three lines of text in {_MOST_TEXT:,} bytes")
    own, shared, entries, _ = lines
    digest, basis = content[start : start + DIGEST_BYTES].hex(), content[start + DIGEST_BYTES : first].hex()
    named = own.endswith((b'"', b"]"))
    text = TaskText(own if named else own + _NAMELESS, b'"%s",%s' % (basis.encode(), shared))
    header = header_of(
        text.sealed(digest.encode()),
        _parts(path, entries),
        first + sum(len(line) + 1 for line in lines[:3]),
    )
    stated = max((tensor.data_offsets[1] for tensor in header.tensors.values()), default=0)
    if stated != len(content) - header.start:
        raise FormatError(path, f"holds {len(content) - header.start:,} bytes of parts, its text says {stated:,}")
    return header


def _parts(path: Path, entries: bytes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each part, by its name."""
    found, end = dict[str, tuple[str, tuple[int, ...]]](), 0
    while end < len(entries):
        entry = _ENTRY.match(entries, end)
        if entry is None:
            rest = entries[end : end + 20].decode(errors="replace")
            raise FormatError(path, f"holds no valid list of parts: {rest!r}")
        end, letter = entry.end(), entry[1].decode()
        if letter not in BY_LETTER:
            raise FormatError(path, f"holds part {letter!r}, which no task has")
        name = BY_LETTER[letter].name
        if name in found:
            raise FormatError(path, f"holds {name} twice")
        sides = (int(entry[2]),) if entry[3] is None else (int(entry[2]), int(entry[3]))
        found[name] = (_TYPES[entry[4]] if entry[4] else "U8", sides)
    return found


def _entry(path: Path, name: str, part: Tensor) -> str:
    """What says that a file has this part."""
    letter, kind = BY_NAME[name].letter if name in BY_NAME else "", _TYPE_LETTERS.get(part.dtype, "")
    row = part.dtype == np.uint8 and len(part.shape) == 1
    if not letter or 0 in part.shape or not (row or (kind and len(part.shape) == 2)):
        raise FormatError(path, f"holds {name} as {part.dtype} {part.shape}, which no part is")
    return letter + "x".join(map(str, part.shape)) + kind
