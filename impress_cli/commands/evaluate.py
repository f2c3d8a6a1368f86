"""`impress eval`."""

from __future__ import annotations

from typing import Annotated

import typer

from impress_cli import options, render
from impress_cli.shared import Compute, Data, Output, command
from impress_format.errors import UsageError


@command
def evaluate(
    path: options.BankPath,
    compute: Compute,
    data: Data,
    output: Output,
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TASK...]", help="Names or references of stored tasks. Default: all.", show_default=False
        ),
    ] = None,
    gg: Annotated[
        bool, typer.Option("--gg", help="The task is known: each runs under its own weights (default).")
    ] = False,
    wrong_mask: Annotated[
        bool, typer.Option("--wrong-mask", help="Control: each task under masks trained for other tasks.")
    ] = False,
    basis: Annotated[
        bool, typer.Option("--basis", help="Evaluate the bank's masks on the tasks they were trained for instead.")
    ] = False,
    holdout: Annotated[float, options.FIT_OPTIONS["holdout"]] = 0.0,
) -> None:
    """Measure accuracy on test images."""
    if gg and wrong_mask:
        raise UsageError("--gg and --wrong-mask exclude each other")
    from impress_learn.jobs import evaluate as run

    with render.watch("tasks", quiet=output.quiet) as watch:
        results = run(
            path,
            tasks or (),
            basis=basis,
            wrong_mask=wrong_mask,
            holdout=holdout,
            device=compute.choose_device,
            data_dir=data.data_dir,
            watch=watch,
        )
    mean = sum(result.accuracy for result in results) / len(results)
    setting = "wrong-mask" if wrong_mask else "gg"
    if output.json:
        rows = [{"task": r.task, "name": r.name, "accuracy": r.accuracy, "samples": r.samples} for r in results]
        render.print_json(
            {
                "setting": setting,
                "method": "known-task",
                "tasks": rows,
                "mean_accuracy": mean,
                "images": results[0].images,
                "samples": sum(r.samples for r in results),
            }
        )
        return
    explanation = "under masks of other tasks (control)" if wrong_mask else "task known (GG)"
    render.print_table(
        f"{path}: accuracy, {explanation}",
        ("task", "images", "accuracy"),
        [(result.name, f"{result.samples:,}", render.percent(result.accuracy)) for result in results],
        footer=f"mean accuracy {render.percent(mean)}" + (" on held-out training images" if holdout else ""),
    )
