"""The only place that prints: results on stdout, as tables or as one JSON document; the rest on stderr.

Text comes from users and strangers (names, paths, model cards). It is printed as it is: never obeyed as markup, as an
emoji code or as a link, and what a terminal would obey (escapes, line breaks of a file name) is shown as its code.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.progress import Task as ProgressTask

    from impress_learn.watch import Watch

_LEAST_TEXT = 12
"""Characters a column of text keeps in a narrow terminal."""
_GAP = "   "
_SUBSTITUTES = {"—": "-", "–": "-", "…": "...", "×": "x", "°": " deg", "α": "alpha", "·": ".", "√": "sqrt", "─": "-"}


def prepare_streams() -> None:
    """Make every text printable on whatever stdout and stderr are.

    A closed stream (`>&-`) becomes the null device: left closed, its number would go to the next file that is opened,
    and what is printed would land in it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    codecs.register_error("impress", _substitute)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="impress")


def print_json(document: Mapping[str, object]) -> None:
    """One JSON document on stdout: a line a field, and a line an element of a list (of values or of records)."""
    sys.stdout.write("{\n" + ",\n".join(_fields(document)) + "\n}\n")
    sys.stdout.flush()


def _fields(document: Mapping[str, object]) -> Iterator[str]:
    for name, value in document.items():
        if isinstance(value, list | tuple) and value:
            text = "[\n    " + ",\n    ".join(_elements(value)) + "\n  ]"
        else:
            text = json.dumps(value, allow_nan=False)
        yield f"  {json.dumps(name)}: {text}"


def print_long_json(name: str, parts: Iterable[Sequence[object]], rest: Callable[[], Mapping[str, object]]) -> None:
    """The document that print_json prints of a list, given some elements at a time, and of fields known after it.

    Nothing is printed before the first part is there, so that what fails at once leaves stdout empty.

    Args:
        name: of the list.
        rest: gives the other fields, asked when there is no further part.
    """
    some = False
    for part in parts:
        if part:
            start = "," if some else f"{{\n  {json.dumps(name)}: ["
            sys.stdout.write(start + "\n    " + ",\n    ".join(_elements(part)))
            sys.stdout.flush()
            some = True
    if not some:
        print_json({name: [], **rest()})
        return
    sys.stdout.write("\n  ]" + "".join(f",\n{field}" for field in _fields(rest())) + "\n}\n")
    sys.stdout.flush()


def _elements(values: Sequence[object]) -> Iterable[str]:
    if hasattr(values[0], "__struct_fields__"):
        import msgspec

        return (one.decode() for one in map(msgspec.json.Encoder().encode, values))
    return (json.dumps(one, allow_nan=False) for one in values)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1, footer: str = ""
) -> None:
    """A table on stdout; the first `text_columns` stand left, the rest are numbers and stand right.

    On a terminal text folds to its width and numbers never do; elsewhere a table is as wide as it needs. (The tables
    of Rich cut numbers where names are long, and take ten seconds for 20,000 rows.)
    """
    print_long_table(title, columns, [rows], text_columns=text_columns)
    if footer:
        print_line(footer)


def print_long_table(
    title: str, columns: Sequence[str], parts: Iterable[Sequence[Sequence[str]]], *, text_columns: int = 1
) -> None:
    """As print_table, of rows that come some at a time; nothing where there is no part.

    Columns are as wide as the first part needs, and wider from a part on that needs more.
    """
    width = _width()
    widths: Sequence[int] = [0] * len(columns)
    some = False
    for rows in parts:
        by_column = [_plain_all(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]
        widths = _column_widths(columns, by_column, text_columns, width, widths)
        out: list[str] = []
        if not some:
            _print_title(title)
            out += [
                "",
                *_lines([_fold(head, size) for head, size in zip(columns, widths, strict=True)], widths, text_columns),
            ]
            out.append(" " + "─" * (sum(widths) + len(_GAP) * (len(widths) - 1)))
        some = True
        out += _rows(by_column, widths, text_columns)
        sys.stdout.write("\n".join([*out, ""]))  # its cells are plain: a million rows are not looked at again
        sys.stdout.flush()
    if some:
        sys.stdout.write("\n")
        sys.stdout.flush()


def _rows(by_column: Sequence[Sequence[str]], widths: Sequence[int], text_columns: int) -> Iterator[str]:
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


def _plain_all(cells: Sequence[str]) -> Sequence[str]:
    return cells if all(map(str.isprintable, cells)) else [plain(cell) for cell in cells]


def _fits(cells: Sequence[str], width: int) -> bool:
    """Whether each is one line of this width, a character a column."""
    return all(map(str.isascii, cells)) and max(map(len, cells), default=0) <= width


def print_line(text: str) -> None:
    """A line of result on stdout."""
    sys.stdout.write(plain(text, keep="\n") + "\n")
    sys.stdout.flush()


def remark(text: str, *, quiet: bool) -> None:
    """A line about what is going on, on stderr."""
    if not quiet:
        _write(sys.stderr, plain(text, keep="\n") + "\n")


def print_error(message: str) -> None:
    """An error, on stderr."""
    console = _console(stderr=True)
    console.print("error:", style="bold red", end=" ", soft_wrap=True)
    _write(sys.stderr, plain(message, keep="\n") + "\n")


@contextmanager
def progress(total: int, unit: str, *, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A bar on stderr with rate and time left. Yields (describe, step); drawn only on a terminal."""
    with watch(unit, quiet=quiet) as seen:
        seen.begin(total)
        yield seen.describe, seen.step


@contextmanager
def watch(unit: str, *, quiet: bool) -> Iterator[Watch]:
    """What a job tells, shown on stderr: remarks as lines, and from its `begin` on a bar, drawn only on a terminal.

    `begin` of 0 steps takes the bar away, to make room for results.
    """
    from impress_learn.watch import Watch

    with ExitStack() as stack:
        bars: list[tuple[Progress, TaskID]] = []

        def begin(total: int) -> None:
            console = _console(stderr=True)
            while bars:  # one at a time: the job goes on to something else
                bars.pop()[0].stop()
            if quiet or not total or not console.is_terminal:
                return
            bar = stack.enter_context(_bar(unit, console))
            bars.append((bar, bar.add_task("", total=total)))

        def describe(text: str) -> None:
            for bar, task in bars:
                bar.update(task, description=plain(text))

        def step() -> None:
            for bar, task in bars:
                bar.advance(task)

        yield Watch(begin=begin, describe=describe, step=step, remark=lambda text: remark(text, quiet=quiet))


def _bar(unit: str, console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: ProgressTask) -> Text:
            return Text(f"{task.speed or 0:,.0f} {unit}/s")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def plain(text: str, keep: str = "") -> str:
    """Text in which what a terminal would obey, but for `keep`, stands as its code: `\\x1b`, `\\n`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else ascii(one)[1:-1] for one in text)


def percent(share: float | None) -> str:
    return "—" if share is None else f"{100 * share:.1f} %"


def count(number: int, thing: str) -> str:
    """`1 task`, `2,000 tasks`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def size(number: float | None) -> str:
    """A number of bytes as people read it, in powers of 1000."""
    if number is None:
        return "—"
    for limit, unit in ((1e3, "B"), (1e6, "kB"), (1e9, "MB")):
        if number < limit:
            return f"{number / limit * 1e3:,.0f} {unit}" if unit == "B" else f"{number / limit * 1e3:,.1f} {unit}"
    return f"{number / 1e9:,.1f} GB"


def ratio(value: float) -> str:
    return f"{value:,.1f} x" if value < 100 else f"{value:,.0f} x"


def _width() -> int | None:
    """Columns there are; None where nobody said: in a pipe or a file."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    return _console(stderr=False).width if sys.stdout.isatty() else None


def _column_widths(
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
    for number, (head, cells) in enumerate(zip(columns, by_column, strict=True)):
        longest = max(max(map(_cells, cells), default=0), least[number])
        # A head of numbers may fold at its spaces.
        head_width = _cells(head) if number < text_columns else max(map(_cells, head.split()), default=0)
        widths.append(max(longest, _cells(head) if width is None else head_width, 1))
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


def _print_title(title: str) -> None:
    """A line of its own, whatever the width of the table below it."""
    if sys.stdout.isatty():
        from rich.text import Text

        _console(stderr=False).print(Text(plain(title), style="bold"), soft_wrap=True)
    else:
        print_line(plain(title))


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """Characters that an output encoding lacks: a plain one in their place, else their code."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(one, ascii(one)[1:-1]) for one in missing), error.end


_ALWAYS, _NEVER = ("coefficients", "residual"), ("masks", "granularity")


def shown_facts(tasks: Sequence[Mapping[str, int]]) -> list[str]:
    """What a table of tasks has a column for, of what their parts say: others than the usual only where a task has any,
    for the sake of narrow terminals.
    """
    names = dict.fromkeys(name for facts in tasks for name in facts if name not in _NEVER)
    return [name for name in (names or _ALWAYS) if name in _ALWAYS or any(facts[name] for facts in tasks)]
