"""`impress infer`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render
from impress_cli.commands.infer_tasks import MethodChoice
from impress_cli.shared import Compute, Output, command

if TYPE_CHECKING:
    from impress_learn.jobs.infer import Answer, Inference
    from impress_learn.progress import Progress


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
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror",
            help="Ask for each image's mirror image too, and answer by the mean, in twice the time. Default: as "
            "the bank was created.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Task and class of your own images, which are converted and resized as the bank says.

    Images that cannot be read are named, and the exit status is then 1. Digits as in MNIST are light on dark. Answers
    are printed as they are made, for any number of images.

    Example: impress infer digits.impress seven.png --task rotated-digits-15
    """
    from impress_learn.jobs.infer import begin_inference

    unreadable: list[str] = []
    remarks: list[str] = []
    with render.show_progress("images", quiet=output.quiet) as progress:
        begun = begin_inference(
            path,
            images,
            task=task,
            one_task=one_task,
            method=method.value,
            mirror=mirror,
            stdin=sys.stdin.buffer.read,
            device=compute.name_or_choose(),
            progress=progress,
        )
        answers = _shown(begun, unreadable, remarks, progress)
        if output.json:
            documents = ([asdict(answer) for answer in part] for part in answers)
            render.print_long_json("images", documents, lambda: {"unreadable": unreadable, "remarks": remarks})
        else:
            _print_table(f"{path}: {render.count(begun.images, 'image')}", answers)
    if unreadable:
        raise typer.Exit(1)


def _shown(
    begun: Inference, unreadable: list[str], remarks: list[str], progress: Progress
) -> Iterator[Sequence[Answer]]:
    """Answers as they come, none of them empty; what cannot be read is told, and added to `unreadable`; what may
    make answers wrong is added to `remarks`.

    While a part is printed there is no bar.
    """
    left = begun.images
    for part in begun.parts:
        progress.begin(0)
        for message in part.unreadable:
            render.print_error(message)
        unreadable += part.unreadable
        remarks += part.remarks
        if part.answers:
            yield part.answers
        left -= len(part.answers) + len(part.unreadable)
        progress.begin(left)


def _print_table(title: str, answers: Iterator[Sequence[Answer]]) -> None:
    first = next(answers, None)
    if first is None:
        return
    told = first[0].task_probability is not None  # of all, or of none: the method says
    render.print_long_table(
        title,
        ("image", "task", *(["sure of it"] if told else []), "class", "probability"),
        (
            [
                (
                    answer.path,
                    answer.task or f"none of these (nearest: {answer.nearest})",
                    *([render.percent(answer.task_probability if answer.task else None)] if told else []),
                    answer.label,
                    render.percent(answer.probability),
                )
                for answer in part
            ]
            for part in chain([first], answers)
        ),
        text_columns=4 if told else 3,
    )
