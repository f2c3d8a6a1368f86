"""How a table of text is laid out: widths of columns, cells that fold, lines. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_LEAST_TEXT = 12
"""Characters a column of text keeps in a narrow terminal."""
_GAP = "   "


def title_lines(columns: Sequence[str], widths: Sequence[int], text_columns: int) -> Iterator[str]:
    """The lines above the rows: the titles of the columns, and a rule."""
    yield from _lines([_fold(title, size) for title, size in zip(columns, widths, strict=True)], widths, text_columns)
    yield " " + "─" * (sum(widths) + len(_GAP) * (len(widths) - 1))


def row_lines(by_column: Sequence[Sequence[str]], widths: Sequence[int], text_columns: int) -> Iterator[str]:
    """The lines of rows that are given by column."""
    sides = "<" * text_columns + ">" * len(widths)
    line = " " + _GAP.join(f"{{:{side}{size}}}" for side, size in zip(sides, widths, strict=False))
    if all(_fits(column, size) for column, size in zip(by_column, widths, strict=True)):
        yield from map(str.rstrip, map(line.format, *by_column))
        return
    for row in zip(*by_column, strict=True):
        if all(_fits([cell], size) for cell, size in zip(row, widths, strict=True)):
            yield line.format(*row).rstrip()
        else:
            yield from _lines([_fold(cell, size) for cell, size in zip(row, widths, strict=True)], widths, text_columns)


def _fits(cells: Sequence[str], width: int) -> bool:
    """Whether each is one line of this width, a character a column."""
    return all(map(str.isascii, cells)) and max(map(len, cells), default=0) <= width


def column_widths(
    columns: Sequence[str],
    by_column: Sequence[Sequence[str]],
    text_columns: int,
    width: int | None,
    least: Sequence[int],
) -> list[int]:
    """As wide as the widest cell and as `least`; where that is more than `width`, columns of text give way, the widest
    first.
    """
    widths = []
    for number, (title, cells) in enumerate(zip(columns, by_column, strict=True)):
        longest = max(max(map(_cells, cells), default=0), least[number])
        # A title over numbers may fold at its spaces.
        title_width = _cells(title) if number < text_columns else max(map(_cells, title.split()), default=0)
        widths.append(max(longest, _cells(title) if width is None else title_width, 1))
    if width is None:
        return widths
    excess = 1 + sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while excess > 0:
        widest = max(range(text_columns), key=lambda number: widths[number])
        if widths[widest] <= _LEAST_TEXT:
            break  # the terminal wraps the line: numbers are never cut
        widths[widest] -= 1
        excess -= 1
    return widths


def _lines(cells: Sequence[Sequence[str]], widths: Sequence[int], text_columns: int) -> Iterator[str]:
    """The lines of one row whose cells are folded."""
    for number in range(max(map(len, cells))):
        yield _line([cell[number] if number < len(cell) else "" for cell in cells], widths, text_columns)


def _line(cells: Sequence[str], widths: Sequence[int], text_columns: int) -> str:
    parts = []
    for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        space = " " * (width - _cells(cell))
        parts.append(cell + space if number < text_columns else space + cell)
    return (" " + _GAP.join(parts)).rstrip()


def _fold(cell: str, width: int) -> list[str]:
    """Lines of at most `width` columns, broken at spaces and slashes where there are any."""
    lines = [""]
    for word in cell.replace("/", "/\0").replace(" ", " \0").split("\0"):
        if lines[-1] and _cells(lines[-1]) + _cells(word.rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        for character in word:
            if _cells(lines[-1] + character.strip()) > width:
                lines.append("")
            lines[-1] += character
    return [line.rstrip() for line in lines]


def _cells(text: str) -> int:
    """Columns a terminal gives a text."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
