"""Text of strangers made fit for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def plain(text: str, keep: str = "") -> str:
    """Text in which what a terminal would obey, but for `keep`, stands as its code: `\\x1b`, `\\n`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else ascii(one)[1:-1] for one in text)


def plain_all(cells: Sequence[str]) -> Sequence[str]:
    return cells if all(map(str.isprintable, cells)) else [plain(cell) for cell in cells]
