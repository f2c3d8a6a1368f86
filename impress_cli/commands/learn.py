"""`impress task add` and `impress task update`: coefficients are learned and stored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render
from impress_cli.idle_cores import say_idle_cores
from impress_cli.shared import Compute, Data, Output, Spread, Tasks, command
from impress_learn.parts.table import Parts
from impress_learn.training.config import UPDATE_TRAINING, TaskTraining

if TYPE_CHECKING:
    from impress_learn.tasks.added import AddedTask


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """What a task is called, and where it begins."""

    name: Annotated[
        str | None, typer.Option("--name", help="Name of a single task. Default: the reference with '-' for '/'.")
    ] = None
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--warm-start",
            metavar="TASK",
            help="Begin from what this stored task has, not from the mean of the masks; with --shots stay near it.",
            show_default=False,
        ),
    ] = None


@command
def add(
    path: options.BankPath,
    *,
    new: NewTask,
    fit: TaskTraining,
    parts: Parts,
    tasks: Tasks,
    spread: Spread,
    compute: Compute,
    data: Data,
    output: Output,
) -> None:
    """Learn new tasks as combinations of the bank's masks; each is stored as one small file.

    Interrupted? The same command resumes where it stopped.

    Example: impress task add digits.impress rotated-digits/15:360:60
    """
    from impress_learn.jobs import add_tasks

    started = time.perf_counter()
    with render.show_progress("steps", quiet=output.quiet) as progress:
        added = add_tasks(
            path,
            tasks.grouped(),
            fit=replace(fit, seed=compute.seed),
            name=new.name,
            parts=parts,
            warm_start=new.warm_start,
            device=compute.on(spread),
            data_dir=data.data_dir,
            progress=progress,
        )
    say_idle_cores(started, fit.threads, spread, compute, output)
    _print_learned(f"{path}: {render.count(len(added), 'task')}", added, json=output.json)


@command
def update(
    path: options.BankPath,
    task: options.Task,
    reference: Annotated[str, typer.Argument(metavar="REF", help="The data to resume with, STREAM/KEY.")],
    compute: Compute,
    data: Data,
    output: Output,
    fit: TaskTraining = UPDATE_TRAINING,
    groups: options.Groups = None,
) -> None:
    """Resume a stored task on other data (drift), from the coefficients it has; its file is replaced.

    Given again with the same settings it changes nothing, so that an interrupted update can be repeated.

    Example: impress task update digits.impress rotated-digits-15 rotated-digits/20 --shots 5
    """
    from impress_learn.jobs import update_task
    from impress_learn.streams.reference import group_references

    with render.show_progress("steps", quiet=output.quiet) as progress:
        learned = update_task(
            path,
            task,
            *group_references([reference], groups),
            fit=replace(fit, seed=compute.seed),
            device=compute.choose_device,
            data_dir=data.data_dir,
            progress=progress,
        )
    _print_learned(f"{path}: {learned.name} updated", [learned], json=output.json)


def _print_learned(title: str, tasks: Sequence[AddedTask], *, json: bool) -> None:
    if json:
        render.print_json({"tasks": [task.flat() for task in tasks]})
        return
    shown = render.shown_facts([task.facts for task in tasks])
    chosen = any(task.begun_from is not None for task in tasks)
    rows = [
        (
            task.name,
            *((task.begun_from or "",) if chosen else ()),
            *(f"{task.facts[fact]:,}" for fact in shown),
            f"{task.bytes:,} B",
            render.percent(task.accuracy),
            render.percent(task.train_accuracy),
            f"{task.seconds:.1f} s",
        )
        for task in tasks
    ]
    known = [task.accuracy for task in tasks if not isnan(task.accuracy)]
    mean = sum(known) / len(known) if known else nan
    render.print_table(
        title,
        ("task", *(("began from",) if chosen else ()), *shown, "on disk", "accuracy", "in training", "time"),
        rows,
        text_columns=2 if chosen else 1,
        footer=f"mean accuracy {render.percent(mean)}"
        + (" on held-out training images" if tasks[0].images == "held-out" else ""),
    )
