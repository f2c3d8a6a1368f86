"""The only place that prints: results on stdout, as Rich tables or as one JSON document; the rest on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_json(document: Mapping[str, object]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1, footer: str = ""
) -> None:
    """A table on stdout; the first `text_columns` stand left, the rest are numbers and stand right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < text_columns else "right", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    _print_result(table)
    if footer:
        _print_result(footer)


def print_line(text: str) -> None:
    """A line of result on stdout."""
    _print_result(text)


def remark(text: str, *, quiet: bool) -> None:
    """A line about what is going on, on stderr."""
    if not quiet:
        _console(stderr=True).print(text, highlight=False, markup=False)


def print_error(message: str) -> None:
    """An error, on stderr."""
    console = _console(stderr=True)
    console.print("error:", style="bold red", end=" ", soft_wrap=True)
    console.print(message, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress(total: int, unit: str, *, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A bar on stderr with rate and time left. Yields (describe, step); drawn only on a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Task as ProgressTask
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: ProgressTask) -> Text:
            return Text(f"{task.speed or 0:,.0f} {unit}/s")

    console = _console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    disable = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=disable, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda text: bar.update(task, description=text), lambda: bar.advance(task)


def percent(share: float | None) -> str:
    return "—" if share is None else f"{100 * share:.1f} %"


def size(count: float | None) -> str:
    """A number of bytes as people read it, in powers of 1000."""
    if count is None:
        return "—"
    for limit, unit in ((1e3, "B"), (1e6, "kB"), (1e9, "MB")):
        if count < limit:
            return f"{count / limit * 1e3:,.0f} {unit}" if unit == "B" else f"{count / limit * 1e3:,.1f} {unit}"
    return f"{count / 1e9:,.1f} GB"


def ratio(value: float) -> str:
    return f"{value:,.1f} x" if value < 100 else f"{value:,.0f} x"


def _print_result(content: Table | str) -> None:
    console = _console(stderr=False)
    if isinstance(content, str):
        console.print(content, highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(content)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)
