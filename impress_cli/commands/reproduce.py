"""`impress reproduce`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from impress_cli import options, render
from impress_cli.shared import Compute, Data, Output, Spread, command


class ScaleChoice(str, Enum):
    tiny = "tiny"
    small = "small"
    paper = "paper"


@command
def reproduce(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="figure-2 to -4, figure-6 to -10, basis-gn, gn; or all.",
            show_default=False,
        ),
    ],
    *,
    scale: Annotated[
        ScaleChoice,
        typer.Option(
            "--scale",
            help="tiny: embedded digits, a minute. small: MNIST and CIFAR-100, under an hour on two cores. paper: "
            "with the paper's densities, masks and epochs, days.",
        ),
    ] = ScaleChoice.tiny,
    folder: Annotated[
        Path,
        typer.Option(
            "--output", metavar="DIR", parser=options.user_path, help="Figures, tables and banks go to DIR/SCALE."
        ),
    ] = Path("reproduced"),
    spread: Spread,
    compute: Compute,
    data: Data,
    output: Output,
) -> None:
    """Remake figures of the ImpressLearn paper: pictures, tables, and what it claims beside what is so here.

    Interrupted? The same command resumes where it stopped.

    Example: impress reproduce figure-2 --output paper
    """
    from impress_learn.reproduce.run import reproduce as remake

    with render.show_progress("steps", quiet=output.quiet) as progress:
        remade = remake(
            names,
            folder,
            scale=scale.value,
            seed=compute.seed,
            device=compute.on(spread),
            data_dir=data.data_dir,
            progress=progress,
        )
    if output.json:
        figures = [
            {
                "name": one.name,
                "title": one.title,
                "files": [str(path) for path in one.files],
                "rows": [row.flat() for row in one.rows],
                "claims": [{**vars(claim), "verdict": claim.verdict} for claim in one.claims],
            }
            for one in remade
        ]
        render.print_json({"output": str(folder), "scale": scale.value, "figures": figures})
        return
    for one in remade:
        rows = [(claim.published, claim.ours, claim.verdict) for claim in one.claims]
        render.print_table(f"{one.name}: {one.title}", ("published", "here", "so"), rows, text_columns=3)
    written = ", ".join(path.name for one in remade for path in one.files)
    render.print_line(f"{folder / scale.value}: {written}, README.md")
