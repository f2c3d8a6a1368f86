"""What a JSON decoder does not refuse, checked over the bytes before it builds anything.

Decoders keep the last of two equal keys, so that two readers may see two records in one file; and a document of many
small values, or of one long text, takes a multiple of its size once decoded.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from impress_format.errors import FormatError
from impress_format.limits import MAX_JSON_DEPTH, MAX_JSON_MARKS

# A text, whether it ends and whether a colon follows; or a bracket. What follows a quote cannot fail to match, so that
# nothing is tried twice and the scan is linear.
_TOKEN = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)("?)[ \t\r\n]*(:?)|[{}\[\]]', re.DOTALL)


_SMALL = 1 << 16
"""Bytes of a document that may be decoded before it is scanned: it cannot swell to much."""

T = TypeVar("T")


def decode_strictly(
    path: Path, text: bytes, decode: Callable[[bytes], T], encode: Callable[[T], bytes], *, longest: int
) -> T:
    """Decode JSON after check_json; or without it, where the text is the very one that `encode` gives for its value.

    Such a text has no key twice and no other form, and telling takes a tenth of the scan: 20,000 tasks are listed in
    two seconds.

    Raises:
        FormatError: as check_json. Whatever `decode` raises is passed on.
    """
    if len(text) <= _SMALL:
        # Whatever is wrong is found again below, and said in the order in which it is checked.
        with contextlib.suppress(msgspec.MsgspecError, UnicodeError, RecursionError, FormatError):
            value = decode(text)
            if encode(value) == text.rstrip(b" "):
                return value
    check_json(path, text, longest=longest)
    return decode(text)


def check_json(path: Path, text: bytes, *, longest: int) -> None:
    """Refuse JSON that strict readers must not decode, in one pass and constant memory.

    Args:
        longest: bytes that one text in it may take.

    Raises:
        FormatError: an object with two equal keys, or too deep, too many or too long values.
    """
    for mark, limit in MAX_JSON_MARKS.items():
        if text.count(mark) > limit:
            raise FormatError(path, f"holds JSON with more than {limit:,} times {mark.decode()}")
    keys: list[set[bytes]] = []  # of each object or array that is open
    for match in _TOKEN.finditer(text):
        first = text[match.start()]
        if first in b'"' and match[2]:
            if match.end(1) - match.start(1) > longest:
                raise FormatError(path, f"holds JSON with a text longer than {longest:,} bytes")
            if match[3]:
                _add_key(path, keys, match[1])
        elif first in b"{[":
            keys.append(set())
            if len(keys) > MAX_JSON_DEPTH:
                raise FormatError(path, f"holds JSON nested deeper than {MAX_JSON_DEPTH} levels")
        elif first in b"}]" and keys:
            keys.pop()
        else:
            raise FormatError(path, "holds JSON that is cut short or malformed")


def _add_key(path: Path, keys: list[set[bytes]], key: bytes) -> None:
    if b"\\" in key:
        raise FormatError(path, "holds JSON with a key written with escapes")
    if not keys or key in keys[-1]:
        raise FormatError(path, f"holds JSON with the key {key.decode(errors='replace')!r} twice in one object")
    keys[-1].add(key)
