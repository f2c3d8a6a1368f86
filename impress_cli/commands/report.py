"""`impress report`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from impress_cli import options, render
from impress_cli.shared import Compute, Data, Output, command


@command
def report(
    path: options.BankPath,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", parser=options.user_path, help="Page to write, by habit .html.")
    ],
    *,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure on test images too, of at most 24 tasks: wrong and best masks, which task images are taken "
            "for, examples. The page keeps the numbers, for the next one of the same bank, which needs no data.",
        ),
    ] = False,
    compute: Compute,
    data: Data,
    output: Output,
) -> None:
    """Write one page about a bank: where masks look, what tasks weigh and cost, as pictures and tables.

    The page needs no network, no script and no other file. A page that was written so before is replaced, any other
    file is not.

    Example: impress report digits.impress digits.html
    """
    from impress_learn.jobs.report import report_bank

    started = time.perf_counter()
    with render.show_progress("tasks", quiet=output.quiet) as progress:
        written = report_bank(
            path,
            file,
            measure=measure,
            device=compute.choose_device,
            data_dir=data.data_dir,
            progress=progress,
        )
    if output.json:
        render.print_json(
            {
                "bank": str(path),
                "file": str(written.file),
                "bytes": written.bytes,
                "measured": written.measured,
                "seconds": time.perf_counter() - started,
            }
        )
        return
    of = f", {render.count(written.measured, 'task')} of it measured" if written.measured else ""
    render.print_line(f"{written.file}: {render.size(written.bytes)}{of}. Open it in a browser; it needs nothing else.")
