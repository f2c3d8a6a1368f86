"""What a JSON decoder does not refuse, checked over the bytes before it builds anything.

Decoders keep the last of two equal keys, so that two readers may see two records in one file; and a document of many
small values, or of one long text, takes a multiple of its size once decoded.
"""

from __future__ import annotations

import re
from pathlib import Path

from impress_format.errors import FormatError
from impress_format.limits import MAX_JSON_DEPTH, MAX_JSON_MARKS

# A text, whether it ends and whether a colon follows; or a bracket. What follows a quote cannot fail to match, so that
# nothing is tried twice and the scan is linear.
_TOKEN = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)("?)[ \t\r\n]*(:?)|[{}\[\]]', re.DOTALL)


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
