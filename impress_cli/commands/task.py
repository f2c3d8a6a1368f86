"""`impress task`: add, update, list, show, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render
from impress_cli.commands import discover, learn
from impress_cli.shared import Output, command

if TYPE_CHECKING:
    from impress_format.task_file import TaskOutline


app = typer.Typer(help="Add, update, list, show and remove tasks.", no_args_is_help=True)


app.command()(learn.add)
app.command()(learn.update)
app.command()(discover.discover)


@app.command("list")
@command
def list_tasks(path: options.BankPath, output: Output) -> None:
    """The tasks stored in a bank."""
    from impress_format.bank import open_bank

    bank = open_bank(path)
    tasks = bank.outline_tasks()
    if output.json:
        render.print_json({"tasks": tasks})
        return
    rows = [_row(task) for task in tasks]
    render.print_table(f"{path}: {render.count(len(tasks), 'task')}", _COLUMNS, rows, text_columns=2)


@app.command()
@command
def show(path: options.BankPath, task: options.Task, output: Output) -> None:
    """One task: how it was learned, and its coefficients (masks down, layers or groups across)."""
    from impress_format.bank import open_bank

    bank = open_bank(path)
    name = bank.find_task(task)
    record, alpha = bank.read_task(name)
    outline = bank.outline_task(name)
    if output.json:
        from msgspec.structs import asdict

        fit, type_ = asdict(record.fit), bank.read_alpha_type(name)
        render.print_json({**asdict(outline), "fit": fit, "alpha_dtype": type_, "alpha": alpha.tolist()})
        return
    render.print_table(f"{path}: {name}", _COLUMNS, [_row(outline)], text_columns=2)
    columns = range(alpha.shape[1]) if alpha.shape[1] <= _MOST_COLUMNS else range(_MOST_COLUMNS)
    layers = [layer.name.removesuffix(".weight") for layer in bank.backbone.masked_layers]
    heads = layers if len(layers) == alpha.shape[1] else [f"column {column}" for column in columns]
    rows = [
        (f"{index} ({bank.manifest.masks[index].label})", *(f"{weights[column]:+.3f}" for column in columns))
        for index, weights in enumerate(alpha)
    ]
    left_out = alpha.shape[1] - len(columns)
    footer = f"{left_out} more columns: --json gives them all" if left_out else ""
    render.print_table("alpha", ("mask", *heads[: len(columns)]), rows, footer=footer)


@app.command()
@command
def remove(
    path: options.BankPath,
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Names or references of stored tasks.")],
    output: Output,
) -> None:
    """Delete tasks. If one is not there, none is removed."""
    from impress_format.bank import open_bank

    bank = open_bank(path)
    names = list(dict.fromkeys(bank.find_task(task) for task in tasks))
    removed = [bank.remove_task(name) for name in names]
    if output.json:
        render.print_json({"removed": removed})
    else:
        render.print_line(f"removed {', '.join(removed)}")


_COLUMNS = ("task", "of", "coefficients", "residual", "on disk", "accuracy")
_MOST_COLUMNS = 12


def _row(task: TaskOutline) -> tuple[str, ...]:
    return (
        task.name,
        task.task,
        f"{task.coefficients:,}",
        f"{task.residual:,}",
        f"{task.bytes:,} B",
        render.percent(task.accuracy),
    )
