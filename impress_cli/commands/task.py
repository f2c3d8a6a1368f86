"""`impress task`: add, update, list, show, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from impress_cli import options, render
from impress_cli.commands import learn
from impress_cli.shared import Output, command

if TYPE_CHECKING:
    from impress_format.bank import Bank


app = typer.Typer(help="Add, update, list, show and remove tasks.", no_args_is_help=True)


app.command()(learn.add)
app.command()(learn.update)


@app.command("list")
@command
def list_tasks(path: options.BankPath, output: Output) -> None:
    """The tasks stored in a bank."""
    from impress_format.bank import open_bank

    bank = open_bank(path)
    tasks = [_describe(bank, name) for name in bank.task_names()]
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
    if output.json:
        fit = {field: getattr(record.fit, field) for field in record.fit.__struct_fields__}
        render.print_json({**_describe(bank, name), "fit": fit, "alpha": alpha.tolist()})
        return
    render.print_table(f"{path}: {name}", _COLUMNS, [_row(_describe(bank, name))], text_columns=2)
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


_COLUMNS = ("task", "of", "coefficients", "on disk", "accuracy")
_MOST_COLUMNS = 12


def _describe(bank: Bank, name: str) -> dict[str, Any]:
    outline = bank.outline_task(name)
    record = outline.record
    return {
        "task": record.task,
        "name": name,
        "coefficients": outline.coefficients,
        "bytes": outline.bytes,
        "accuracy": record.accuracy,
        "train_accuracy": record.train_accuracy,
        "images": "held-out" if record.fit.holdout else "test",
        "masks": outline.masks,
        "granularity": record.granularity,
    }


def _row(task: dict[str, Any]) -> tuple[str, ...]:
    return (
        task["name"],
        task["task"],
        f"{task['coefficients']:,}",
        f"{task['bytes']:,} B",
        render.percent(task["accuracy"]),
    )
