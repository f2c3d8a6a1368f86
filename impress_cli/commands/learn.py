"""`impress task add` and `impress task update`: coefficients are learned and stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render
from impress_cli.shared import Compute, Data, Output, command
from impress_learn.fits import UPDATE_FIT, TaskFit

if TYPE_CHECKING:
    from impress_format.records import ResidualBits
    from impress_learn.tasks import AddedTask


class ResidualBitsChoice(str, Enum):
    one = "1"
    two = "2"
    four = "4"
    eight = "8"


_BITS: dict[ResidualBitsChoice, ResidualBits] = {
    ResidualBitsChoice.one: 1,
    ResidualBitsChoice.two: 2,
    ResidualBitsChoice.four: 4,
    ResidualBitsChoice.eight: 8,
}


class AlphaTypeChoice(str, Enum):
    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


@command
def add(
    path: options.BankPath,
    references: options.References,
    compute: Compute,
    data: Data,
    output: Output,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of a single task. Default: the reference with '-' for '/'.")
    ] = None,
    fit: TaskFit = TaskFit(),  # noqa: B008  frozen
    granularity: Annotated[
        int,
        typer.Option(
            "--granularity",
            help="Groups of output channels in each layer with coefficients of their own: the dial "
            "between bytes and accuracy. 1 is the paper.",
        ),
    ] = 1,
    alpha_dtype: Annotated[
        AlphaTypeChoice | None,
        typer.Option(
            "--alpha-dtype",
            help="How coefficients are stored: in 4, 2 or 1 bytes. Default: int8 (float32 in banks of version 1).",
            show_default=False,
        ),
    ] = None,
    alpha: Annotated[
        bool | None,
        typer.Option(
            "--alpha/--no-alpha",
            help="Weigh the bank's masks; without, a task is its residual alone. Default: unless it has a head.",
            show_default=False,
        ),
    ] = None,
    residual: Annotated[
        int,
        typer.Option(
            "--residual",
            metavar="BITS",
            help="Bits, in all, of values that all weights share, each weight's chosen by a hash: for tasks unlike the "
            "basis, or the last points of accuracy. 4,096 are 512 bytes.",
        ),
    ] = 0,
    residual_bits: Annotated[
        ResidualBitsChoice, typer.Option("--residual-bits", help="Of these for each value.")
    ] = ResidualBitsChoice.one,
    residual_layers: Annotated[
        int | None,
        typer.Option(
            "--residual-layers",
            metavar="N",
            help="Beside a head, the last layers before the classifier that the residual is of. Default: as many as "
            "hold a quarter of the weights; more gain more, and take longer.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        int | None,
        typer.Option(
            "--head",
            metavar="DIMENSIONS",
            help="Over pretrained weights (`bank create --weights`): a classifier of so many numbers a class, in the "
            "bank's projection of features. Default there: 128. 0 for none.",
            show_default=False,
        ),
    ] = None,
    head_bits: Annotated[
        ResidualBitsChoice, typer.Option("--head-bits", help="Of a value of the head.")
    ] = ResidualBitsChoice.two,
    hybrid: Annotated[
        bool,
        typer.Option(
            "--hybrid", help="A mask of its own in the last layer, in place of coefficients there (the paper)."
        ),
    ] = False,
    bytes: Annotated[
        int | None,
        typer.Option(
            "--bytes",
            metavar="N",
            help="The best task in a file of N bytes, everything included: chooses the parts. In a pack it takes some "
            "200 fewer.",
            show_default=False,
        ),
    ] = None,
    signature: Annotated[
        bool,
        typer.Option(
            help="Store 64 bytes, too, that images of the task are recognised by: `impress infer`, `impress eval --gn`."
        ),
    ] = True,
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--warm-start",
            metavar="TASK",
            help="Begin from what this stored task has, not from the mean of the masks; with --shots stay near it.",
            show_default=False,
        ),
    ] = None,
    groups: options.Groups = None,
) -> None:
    """Learn new tasks as combinations of the bank's masks; each is stored as one small file.

    Interrupted? The same command resumes where it stopped.

    Example: impress task add digits.impress rotated-digits/15:360:60
    """
    from impress_learn.jobs import add_tasks

    with render.watch("steps", quiet=output.quiet) as watch:
        added = add_tasks(
            path,
            references,
            fit=replace(fit, seed=compute.seed),
            name=name,
            granularity=granularity,
            alpha_dtype=alpha_dtype.value if alpha_dtype else None,
            alpha=alpha,
            residual=residual,
            residual_bits=_BITS[residual_bits],
            residual_layers=residual_layers,
            hybrid=hybrid,
            head=head,
            head_bits=_BITS[head_bits],
            bytes=bytes,
            signature=signature,
            warm_start=warm_start,
            groups=groups,
            device=compute.choose_device,
            data_dir=data.data_dir,
            watch=watch,
        )
    _print_learned(f"{path}: {render.count(len(added), 'task')}", added, json=output.json)


@command
def update(
    path: options.BankPath,
    task: options.Task,
    reference: Annotated[str, typer.Argument(metavar="REF", help="The data to resume with, STREAM/KEY.")],
    compute: Compute,
    data: Data,
    output: Output,
    fit: TaskFit = UPDATE_FIT,
    groups: options.Groups = None,
) -> None:
    """Resume a stored task on other data (drift), from the coefficients it has; its file is replaced.

    Given again with the same settings it changes nothing, so that an interrupted update can be repeated.

    Example: impress task update digits.impress rotated-digits-15 rotated-digits/20 --shots 5
    """
    from impress_learn.jobs import update_task

    with render.watch("steps", quiet=output.quiet) as watch:
        learned = update_task(
            path,
            task,
            reference,
            fit=replace(fit, seed=compute.seed),
            groups=groups,
            device=compute.choose_device,
            data_dir=data.data_dir,
            watch=watch,
        )
    _print_learned(f"{path}: {learned.name} updated", [learned], json=output.json)


def _print_learned(title: str, tasks: Sequence[AddedTask], *, json: bool) -> None:
    if json:
        render.print_json({"tasks": [asdict(task) for task in tasks]})
        return
    heads = any(task.head for task in tasks)
    rows = [
        (
            task.name,
            f"{task.coefficients:,}",
            f"{task.residual:,}",
            *([f"{task.head:,}"] if heads else []),
            f"{task.bytes:,} B",
            render.percent(task.accuracy),
            render.percent(task.train_accuracy),
            f"{task.seconds:.1f} s",
        )
        for task in tasks
    ]
    mean = sum(task.accuracy for task in tasks) / len(tasks)
    render.print_table(
        title,
        (
            "task",
            "coefficients",
            "residual",
            *(["head"] if heads else []),
            "on disk",
            "accuracy",
            "in training",
            "time",
        ),
        rows,
        footer=f"mean accuracy {render.percent(mean)}"
        + (" on held-out training images" if tasks[0].images == "held-out" else ""),
    )
