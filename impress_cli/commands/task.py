"""`impress task`: add, list, show, remove."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impress_cli import options, render

if TYPE_CHECKING:
    from impress_format.bank import Bank

app = typer.Typer(help="Add, list, show and remove tasks.", no_args_is_help=True)


@app.command()
def add(
    path: options.BankPath,
    references: options.References,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of a single task. Default: the reference with '-' for '/'.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes over the data. Default: 3, more where images are few.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images a training step.")] = 128,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate at the start; it falls to 0 as a cosine.")] = 0.03,
    l1: Annotated[
        float, typer.Option("--l1", help="Weight of the term that holds each layer's coefficients to norm 1.")
    ] = 0.0,
    granularity: Annotated[
        int,
        typer.Option(
            "--granularity",
            help="Groups of output channels in each layer with coefficients of their own: the dial "
            "between bytes and accuracy. 1 is the paper.",
        ),
    ] = 1,
    shots: Annotated[
        int | None, typer.Option("--shots", help="Learn from this many images of each class only, chosen by the seed.")
    ] = None,
    holdout: options.Holdout = 0.0,
    seed: options.Seed = 0,
    device: options.DeviceOption = options.Device.auto,
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Learn new tasks as combinations of the bank's masks; each is stored as one small file.

    Interrupted? The same command goes on where it stopped.

    Example: impress task add digits.impress rotated-digits/15:360:60
    """
    from impress_format.bank import check_task_name, open_bank
    from impress_learn.plan import require_fit
    from impress_learn.streams.reference import parse_references

    bank = open_bank(path)
    if name is not None:
        check_task_name(name)
    tasks = parse_references(references)
    require_fit(tasks, bank.backbone)
    bank.complete_masks()

    from impress_cli.runtime import choose_device, data_folder
    from impress_learn.evaluate import load_bank
    from impress_learn.tasks import add_task, request_tasks, still_to_add, training_steps

    requests = request_tasks(
        tasks,
        name=name,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        l1=l1,
        granularity=granularity,
        shots=shots,
        holdout=holdout,
        seed=seed,
    )
    missing = still_to_add(bank, requests)
    if len(missing) < len(requests):
        render.remark(f"{len(requests) - len(missing)} of {len(requests)} tasks are there already", quiet=quiet)
    loaded = load_bank(bank, choose_device(device))
    added = []
    with render.progress(sum(map(training_steps, missing)), "steps", quiet=quiet) as (describe, step):
        for number, request in enumerate(missing, start=1):
            describe(f"task {number} of {len(missing)}: {request.reference}")
            added.append(add_task(loaded, request, data_dir=data_folder(data_dir), on_step=step))
    if json:
        render.print_json({"tasks": [asdict(task) for task in added]})
        return
    rows = [
        (
            task.name,
            f"{task.coefficients:,}",
            f"{task.bytes:,} B",
            render.percent(task.accuracy),
            render.percent(task.train_accuracy),
            f"{task.seconds:.1f} s",
        )
        for task in added
    ]
    mean = sum(task.accuracy for task in added) / len(added)
    render.print_table(
        f"{path}: {len(added)} tasks added over {len(loaded.basis)} masks",
        ("task", "coefficients", "on disk", "accuracy", "in training", "time"),
        rows,
        footer=f"mean accuracy {render.percent(mean)}" + (" on held-out training images" if holdout else ""),
    )


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
