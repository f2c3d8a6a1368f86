"""Numbers and names as the page writes them, and the one place where text becomes HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

_UNITS = ((1e3, "B"), (1e6, "kB"), (1e9, "MB"), (1e12, "GB"))


def escape(text: str) -> str:
    """A text of anybody's inside HTML, SVG or an attribute: it is read as it is and means nothing.

    What is invisible, controls, or turns the direction of writing is shown as its code.
    """
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    return html.escape(shown, quote=True)


def size(number: float | None) -> str:
    """Bytes, in powers of 1,000."""
    if number is None:
        return "—"
    for limit, unit in _UNITS:
        if number < limit:
            return f"{number:,.0f} B" if unit == "B" else f"{number / limit * 1e3:,.1f} {unit}"
    return f"{number / 1e12:,.1f} TB"


def round_size(number: float) -> str:
    """Bytes at a tick of an axis, without a fraction that is 0."""
    return size(number).replace(".0 ", " ")


def percent(share: float | None) -> str:
    """A share as per cent; a dash where there is none."""
    return "—" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:,.1f} ×" if value < 100 else f"{value:,.0f} ×"


def count(number: int, thing: str) -> str:
    """`1 task`, `2,000 tasks`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def shorten(text: str, most: int) -> str:
    """A text of at most so many characters, its middle left out."""
    if len(text) <= most:
        return text
    left = (most - 1) // 2
    return f"{text[:left]}…{text[len(text) - (most - 1 - left) :]}"


def share_beginning(labels: Sequence[str]) -> str:
    """What all of two or more different references begin with, up to a slash: `rotated-digits/`; else nothing.

    Labels without a slash (`random`) do not count.
    """
    references = {label for label in labels if "/" in label}
    beginnings = {label[: label.rfind("/") + 1] for label in references}
    return beginnings.pop() if len(beginnings) == 1 and len(references) > 1 else ""


def spread_evenly(number: int, most: int) -> list[int]:
    """At most so many of the numbers below `number`, evenly spread, the first and the last among them."""
    if number <= most:
        return list(range(number))
    return [round(place * (number - 1) / (most - 1)) for place in range(most)]
