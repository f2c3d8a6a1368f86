"""`impress task`: add, update, list, show, remove, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impress_cli import options, render
from impress_cli.commands import discover, learn

if TYPE_CHECKING:
    from impress_format.bank import Bank


app = typer.Typer(help="Add, update, list, show, remove, export and import tasks.", no_args_is_help=True)


app.command()(learn.add)
app.command()(learn.update)
app.command()(discover.discover)


@app.command("list")
def list_tasks(
    path: options.BankPath, json: options.Json = False, quiet: options.Quiet = False, debug: options.Debug = False
) -> None:
    """The tasks stored in a bank."""
    from impress_format.bank import open_bank

    bank = open_bank(path)
    tasks = [_describe(bank, name) for name in bank.task_names()]
    if json:
        render.print_json({"tasks": tasks})
        return
    rows = [_row(task) for task in tasks]
    render.print_table(f"{path}: {len(tasks)} tasks", _COLUMNS, rows, text_columns=2)


@app.command()
def show(
    path: options.BankPath,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name or reference of a stored task.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """One task: how it was learned, and its coefficients (masks down, layers or groups across)."""
    from impress_format.bank import open_bank

    bank = open_bank(path)
    name = bank.find_task(task)
    record, alpha = bank.read_task(name)
    if json:
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
def remove(
    path: options.BankPath,
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Names or references of stored tasks.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Delete tasks. If one is not there, none is removed."""
    from impress_format.bank import open_bank

    bank = open_bank(path)
    names = list(dict.fromkeys(bank.find_task(task) for task in tasks))
    removed = [bank.remove_task(name) for name in names]
    if json:
        render.print_json({"removed": removed})
    else:
        render.print_line(f"removed {', '.join(removed)}")


_COLUMNS = ("task", "of", "coefficients", "on disk", "accuracy")
_MOST_COLUMNS = 12


@app.command("export")
def export_task(
    path: options.BankPath,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name or reference of a stored task.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to put it; nothing may be there yet.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Copy one task into a file, to send it to someone who has the bank."""
    from impress_format.bank import open_bank

    name = open_bank(path).export_task(task, file)
    size = file.stat().st_size
    if json:
        render.print_json({"task": name, "file": str(file), "bytes": size})
    else:
        render.print_line(f"{file}: task {name}, {render.size(size)}")


@app.command("import")
def import_task(
    path: options.BankPath,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `impress task export` wrote.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the task. Default: as in the file.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Store a task that was exported from a copy of this bank. Needs no data: it is found by --gn at once."""
    from impress_format.bank import open_bank

    bank = open_bank(path)
    stored = bank.import_task(file, name)
    if json:
        render.print_json({"tasks": [_describe(bank, stored)]})
    else:
        render.print_table(f"{path}: {stored} imported", _COLUMNS, [_row(_describe(bank, stored))], text_columns=2)


def _describe(bank: Bank, name: str) -> dict[str, Any]:
    record, alpha = bank.read_task(name)
    return {
        "task": record.task,
        "name": record.name,
        "coefficients": int(alpha.size),
        "bytes": bank.task_path(name).stat().st_size,
        "accuracy": record.accuracy,
        "train_accuracy": record.train_accuracy,
        "masks": len(alpha),
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
