"""`impress infer`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from impress_cli import options, render
from impress_cli.commands.infer_tasks import MethodChoice
from impress_cli.shared import Compute, Output, command


@command
def infer(
    path: options.BankPath,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Image files, folders of them, or - for one on standard input.", show_default=False
        ),
    ],
    compute: Compute,
    output: Output,
    task: Annotated[
        str | None,
        typer.Option("--task", help="Name or reference of the images' task. Default: inferred.", show_default=False),
    ] = None,
    one_task: Annotated[
        bool, typer.Option("--one-task", help="The images share one task: it is inferred from all of them at once.")
    ] = False,
    method: Annotated[MethodChoice, typer.Option("--method", help="How the task is inferred.")] = MethodChoice.auto,
) -> None:
    """Task and class of your own images, which are converted and resized as the bank says.

    Images that cannot be read are named, and the exit status is then 1. Digits as in MNIST are light on dark.

    Example: impress infer digits.impress seven.png --task rotated-digits-15
    """
    from impress_learn.infer import infer as run

    with render.watch("images", quiet=output.quiet) as watch:
        found = run(
            path,
            images,
            task=task,
            one_task=one_task,
            method=method.value,
            stdin=sys.stdin.buffer.read,
            device=compute.choose_device,
            watch=watch,
        )
    for message in found.unreadable:
        render.print_error(message)
    if output.json:
        render.print_json({"images": [asdict(answer) for answer in found.answers], "unreadable": found.unreadable})
    elif found.answers:
        told = any(answer.task_probability is not None for answer in found.answers)
        render.print_table(
            f"{path}: {render.count(len(found.answers), 'image')}",
            ("image", "task", *(["sure of it"] if told else []), "class", "probability"),
            [
                (
                    answer.path,
                    answer.task or f"none of these (nearest: {answer.nearest})",
                    *([render.percent(answer.task_probability if answer.task else None)] if told else []),
                    answer.label,
                    render.percent(answer.probability),
                )
                for answer in found.answers
            ],
            text_columns=4 if told else 3,
        )
    if found.unreadable:
        raise typer.Exit(1)
