"""Tables, coloured tables and pictures of numbers, as HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from impress_learn.report.colours import DARK, DARK_BOTH, FINE_DARK, FINE_LIGHT, LIGHT, LIGHT_BOTH, STEPS
from impress_learn.report.masks import FloatArray
from impress_learn.report.png import Colour, data_uri, palette_png, to_levels
from impress_learn.report.words import escape, share_beginning, shorten

_MOST_COLUMNS = 24
_MOST_CELLS = 600
"""Numbers of a coloured table; more become a picture."""
_MOST_LABEL = 22
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
QUANTILE_HEADS = ("least", "5 %", "25 %", "median", "75 %", "95 %", "most")


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Heat:
    """A matrix to be seen.

    Attributes:
        caption: what its numbers are; of a table its caption.
        sentence: what it shows, for who does not see it.
        corner: what rows and columns are.
        rows, columns: their names.
        values: float64 (rows, columns); NaN where there is none.
        middle: the value that is neither little nor much; None where 0 is little.
        reach: how far from `middle` the scale goes at least: what is nearer than a part of it looks like nothing.
        digits: after the point.
    """

    caption: str
    sentence: str
    corner: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: FloatArray
    middle: float | None = None
    reach: float = 0.0
    digits: int = 2

    @property
    def limits(self) -> tuple[float, float]:
        """The values at the ends of the scale of colours."""
        known = self.values[np.isfinite(self.values)]
        if not len(known):
            return 0.0, 1.0
        if self.middle is None:
            return 0.0, float(known.max()) or 1.0
        reach = max(self.reach, float(np.abs(known - self.middle).max())) or 1.0
        return self.middle - reach, self.middle + reach


def table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1, hidden: bool = False
) -> str:
    """A table of texts; the first `texts` columns stand left, and if there are such, the first cell of a row names it.
    All is escaped.

    Args:
        hidden: whether the caption is for who does not see it alone: its heading says the same.
    """
    kinds = [' class="l"' if place < texts else "" for place in range(len(heads))]
    parts = [f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table>']
    unseen = ' class="v"' if hidden else ""
    parts.append(f"<caption{unseen}>{escape(caption)}</caption><thead><tr>")
    parts += [f'<th scope="col"{kind}>{escape(head)}</th>' for head, kind in zip(heads, kinds, strict=True)]
    parts.append("</tr></thead><tbody>")
    for first, *others in rows:
        named = f'<th scope="row" class="l">{escape(first)}</th>' if texts else f"<td>{escape(first)}</td>"
        parts.append(f"<tr>{named}")
        parts += [f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(others, kinds[1:], strict=True)]
        parts.append("</tr>")
    return "".join(parts) + "</tbody></table></div>"


def folded(summary: str, content: str) -> str:
    """What is there for who asks for it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def figure(content: str, words: str) -> str:
    """A picture and what it says."""
    return f"<figure>{content}<figcaption>{escape(words)}</figcaption></figure>"


def heat(matrix: Heat) -> str:
    """A matrix as a coloured table with its numbers; a large one as a picture with a pixel for each number."""
    rows, columns = matrix.values.shape
    if columns <= _MOST_COLUMNS and rows * columns <= _MOST_CELLS:
        return _coloured_table(matrix)
    return _large(matrix)


def beside_names(names: Sequence[str]) -> tuple[str, list[str]]:
    """What all references among these names begin with, and the rest of each name, short enough for a label."""
    beginning = share_beginning(names)
    return beginning, [shorten(name.removeprefix(beginning) or name, _MOST_LABEL) for name in names]


def two_pictures(pixels: FloatArray, limits: tuple[float, float], alt: str, *, both: bool = False) -> str:
    """An image element of an array (height, width), in the colours of light and of dark pages."""
    light, dark = (LIGHT_BOTH, DARK_BOTH) if both else (FINE_LIGHT, FINE_DARK)
    steps = to_levels(pixels, *limits, len(light))
    height, width = steps.shape

    def address(palette: Sequence[Colour]) -> str:
        return data_uri(palette_png(steps, palette))

    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{address(dark)}">'
        f'<img class="p" width="{width}" height="{height}" alt="{escape(alt)}" src="{address(light)}"></picture>'
    )


def _coloured_table(matrix: Heat) -> str:
    low, high = matrix.limits
    both = matrix.middle is not None
    steps = to_levels(matrix.values, low, high, len(LIGHT_BOTH) if both else STEPS)
    row_names, column_names = beside_names(matrix.rows)[1], beside_names(matrix.columns)[1]
    parts = [f'<div class="wide" tabindex="0" role="region" aria-label="{escape(matrix.caption)}">']
    parts.append(f'<table class="h"><caption>{escape(matrix.caption)}</caption><thead><tr>')
    parts.append(f'<th scope="col" class="l">{escape(matrix.corner)}</th>')
    parts += [f'<th scope="col">{escape(name)}</th>' for name in column_names]
    parts.append("</tr></thead><tbody>")
    for name, values, row in zip(row_names, matrix.values.tolist(), steps.tolist(), strict=True):
        parts.append(f'<tr><th scope="row" class="l">{escape(name)}</th>')
        for value, step in zip(values, row, strict=True):
            if math.isnan(value):
                parts.append("<td>·</td>")
            else:
                parts.append(f'<td class="{"b" if both else "s"}{step}">{_number(value, matrix.digits)}</td>')
        parts.append("</tr>")
    return "".join(parts) + "</tbody></table></div>"


def _number(value: float, digits: int) -> str:
    """With a minus sign as print has it, and none before a 0."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def _large(matrix: Heat) -> str:
    low, high = matrix.limits
    both = matrix.middle is not None
    colours = (LIGHT_BOTH if both else LIGHT), (DARK_BOTH if both else DARK)
    scale = "".join(f'<i class="{"b" if both else "s"}{step}"></i>' for step in range(len(colours[0])))
    image = two_pictures(
        np.nan_to_num(matrix.values, nan=matrix.middle or 0.0), (low, high), matrix.sentence, both=both
    )
    row, _, column = matrix.corner.partition(" \\ ")
    what = f"{matrix.caption}. Each row is a {row}, each column a {column or row}."
    fine = matrix.digits + 1
    known = matrix.values[np.isfinite(matrix.values)]
    numbers = [f"{value:.{fine}f}" for value in (np.quantile(known, QUANTILES).tolist() if len(known) else [])]
    quantiles = table(f"Quantiles: {matrix.caption}", QUANTILE_HEADS, [numbers], texts=0) if numbers else ""
    return (
        f'<div class="large">{image}<p class="scale"><span>{_number(low, fine)}</span>'
        f'<span class="ramp">{scale}</span><span>{_number(high, fine)}</span></p>'
        f"<p class=how>{escape(what)}</p>{quantiles}</div>"
    )
