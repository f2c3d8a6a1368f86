"""The only place that prints: results on stdout, as tables or as one JSON document; the rest on stderr.

Text comes from users and strangers (names, paths, model cards). It is printed as it is: never obeyed as markup, as an
emoji code or as a link, and what a terminal would obey (escapes, line breaks of a file name) is shown as its code.
"""

from __future__ import annotations

import codecs
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from impress_cli.printable import plain, plain_all
from impress_cli.table_layout import column_widths, row_lines, title_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import Task as ProgressTask
    from rich.progress import TaskID

    from impress_learn.progress import Progress

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
        by_column = [plain_all(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]
        widths = column_widths(columns, by_column, text_columns, width, widths)
        out: list[str] = []
        if not some:
            _print_title(title)
            out += ["", *title_lines(columns, widths, text_columns)]
        some = True
        out += row_lines(by_column, widths, text_columns)
        sys.stdout.write("\n".join([*out, ""]))  # its cells are plain: a million rows are not looked at again
        sys.stdout.flush()
    if some:
        sys.stdout.write("\n")
        sys.stdout.flush()


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
    with show_progress(unit, quiet=quiet) as seen:
        seen.begin(total)
        yield seen.describe, seen.step


@contextmanager
def show_progress(unit: str, *, quiet: bool) -> Iterator[Progress]:
    """What a job tells, shown on stderr: remarks as lines, and from its `begin` on a bar, drawn only on a terminal.

    `begin` of 0 steps takes the bar away, to make room for results.
    """
    from impress_learn.progress import Progress

    with ExitStack() as stack:
        bars: list[tuple[RichProgress, TaskID]] = []

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

        def again(lost: int) -> None:
            for bar, task in bars:
                bar.advance(task, -lost)

        yield Progress(
            begin=begin,
            describe=describe,
            step=step,
            again=again,
            remark=lambda text: remark(text, quiet=quiet),
        )


def _bar(unit: str, console: Console) -> RichProgress:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: ProgressTask) -> Text:
            return Text(f"{task.speed or 0:,.0f} {unit}/s")

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def percent(share: float | None) -> str:
    return "—" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


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
    """What a table of tasks has a column for, of what their parts say: of others than the usual only where a task has
    any, and then of these alone, for the sake of narrow terminals.
    """
    names = dict.fromkeys(name for facts in tasks for name in facts if name not in _NEVER)
    some = [name for name in names if any(facts[name] for facts in tasks)]
    return list(_ALWAYS) if set(some) <= set(_ALWAYS) else some
