"""`impress task`: add, update, discover, list, show, remove, export, import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render
from impress_cli.commands import discover, learn
from impress_cli.shared import Output, command

if TYPE_CHECKING:
    from impress_format.tasks.file import TaskSummary


app = typer.Typer(help="Add, update, list, show, remove, export and import tasks.", no_args_is_help=True)


app.command()(learn.add)
app.command()(learn.update)
app.command()(discover.discover)


@app.command("list")
@command
def list_tasks(path: options.BankPath, output: Output) -> None:
    """The tasks stored in a bank.

    Example: impress task list digits.impress
    """
    from impress_format.bank import open_bank

    bank = open_bank(path)
    tasks = bank.summarise_tasks()
    if output.json:
        render.print_json({"tasks": [task.flat() for task in tasks]})
        return
    _print_tasks(f"{path}: {render.count(len(tasks), 'task')}", tasks)


@app.command()
@command
def show(path: options.BankPath, task: options.Task, output: Output) -> None:
    """One task: how it was learned, and its coefficients (masks down, layers or groups across), or the masks' votes.

    Example: impress task show digits.impress rotated-digits-15
    """
    from impress_format.bank import open_bank
    from impress_format.parts.alpha import ALPHA, matrix_of
    from impress_format.parts.own_mask import OWN_MASK
    from impress_format.parts.vote import VOTE

    bank = open_bank(path)
    name = bank.find_task(task)
    stored = bank.read_stored(name)
    record, found, shares = stored.record, ALPHA.of(stored), VOTE.of(stored)
    alpha = matrix_of(stored, record.settings.alpha, bank.backbone)
    summary = bank.summarise_task(name)
    if output.json:
        from msgspec.structs import asdict as fields_of

        fit, kind = record.fit and fields_of(record.fit), found and found.type
        votes = None if shares is None else [round(float(share), 6) for share in shares]
        render.print_json({**summary.flat(), "fit": fit, "alpha_dtype": kind, "alpha": alpha.tolist(), "votes": votes})
        return
    _print_tasks(f"{path}: {name}", [summary])
    if shares is not None:
        voting = [
            (f"{index} ({bank.manifest.masks[index].label})", render.percent(float(share)))
            for index, share in enumerate(shares)
            if share
        ]
        render.print_table("votes", ("mask", "share"), voting)
        return
    columns = range(alpha.shape[1]) if alpha.shape[1] <= _MOST_COLUMNS else range(_MOST_COLUMNS)
    layers = [layer.name.removesuffix(".weight") for layer in bank.backbone.masked_layers]
    layers = layers[:-1] if OWN_MASK.of(stored) is not None else layers  # a hybrid task has none for the last
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
    """Delete tasks. If one is not there, none is removed.

    Example: impress task remove digits.impress rotated-digits-15 rotated-digits-75
    """
    from impress_format.bank import open_bank

    bank = open_bank(path)
    names = list(dict.fromkeys(bank.find_task(task) for task in tasks))
    removed = [bank.remove_task(name) for name in names]
    if output.json:
        render.print_json({"removed": removed})
    else:
        render.print_line(f"removed {', '.join(removed)}")


@app.command()
@command
def export(
    path: options.BankPath,
    task: options.Task,
    file: Annotated[Path, typer.Argument(metavar="FILE", parser=options.user_path, help="File to write.")],
    output: Output,
    packet: Annotated[
        int | None,
        typer.Option(
            "--packet",
            metavar="N",
            help="Write a packet of at most N bytes: the task's numbers and a tag, no names and no record. For links "
            "like LoRaWAN (51, 115, 222), SMS (140) and BLE (244).",
        ),
    ] = None,
) -> None:
    """Write one task to a file of its own, for `impress task import` into another bank with the same masks.

    Example: impress task export digits.impress rotated-digits/15 fifteen.safetensors
    """
    if packet is not None:
        _export_packet(path, task, file, packet, output)
        return
    from impress_format.bank import open_bank
    from impress_format.operations.exchange import export_task

    written = export_task(open_bank(path), task, file)
    if output.json:
        render.print_json({"file": str(file), "task": written.task, "name": written.name, "bytes": written.bytes})
    else:
        render.print_line(f"{file}: {written.name}, {written.bytes:,} B")


@app.command("import")
@command
def import_tasks(
    path: options.BankPath,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", parser=options.user_path, help="Files that `impress task export` wrote."),
    ],
    output: Output,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of a single task. Default: the one it has; of a packet, its file's."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="REF",
            help="Of packets, which do not say it: STREAM/KEY that they were learned from. It tells names of classes.",
        ),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(
            "--class-names",
            metavar="A,B,...",
            help="Of packets: what their classes are called, in the order of the outputs; or a file with a name a "
            "line. Default: as the reference or the bank tells. A packet of classes with other names is refused.",
        ),
    ] = None,
) -> None:
    """Store tasks from files. If one does not belong to this bank, none is stored; no data are needed.

    Example: impress task import digits.impress fifteen.safetensors
    """
    from impress_learn.jobs.packets import Told, import_tasks, names_in

    told = Told(reference=reference, class_names=() if class_names is None else names_in(class_names))
    with render.show_progress("files", quiet=output.quiet) as progress:
        stored = import_tasks(path, files, name=name, told=told, progress=progress)
    if output.json:
        render.print_json({"tasks": [task.flat() for task in stored]})
        return
    _print_tasks(f"{path}: {render.count(len(stored), 'task')} imported", stored)


def _export_packet(path: Path, task: str, file: Path, size: int, output: Output) -> None:
    from impress_learn.jobs.packets import export_packet

    written = export_packet(path, task, file, size)
    if output.json:
        render.print_json({"file": str(file), **asdict(written)})
        return
    render.print_line(f"{file}: {written.name}, a packet of {written.bytes:,} B: {' and '.join(written.parts)}")
    if not written.signed and written.signature:
        render.print_line("Its signature does not fit: where it arrives, tasks of images are found by entropy.")


_MOST_COLUMNS = 12


def _print_tasks(title: str, tasks: Sequence[TaskSummary]) -> None:
    """A row for each task; of heads only where there are any, for the sake of narrow terminals."""
    shown = render.shown_facts([task.facts for task in tasks])
    rows = [
        (
            task.name,
            task.task,
            *(f"{task.facts[fact]:,}" for fact in shown),
            f"{task.bytes:,} B",
            render.percent(task.accuracy),
        )
        for task in tasks
    ]
    render.print_table(title, ("task", "of", *shown, "on disk", "accuracy"), rows, text_columns=2)
