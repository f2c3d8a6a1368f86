"""`impress task add` and `impress task update`: coefficients are learned and stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render

if TYPE_CHECKING:
    from impress_learn.tasks import AddedTask


class AlphaTypeChoice(str, Enum):
    float32 = "float32"
    float16 = "float16"


Epochs = Annotated[
    int | None, typer.Option("--epochs", help="Passes over the data. Default: 3, more where images are few.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Images a training step.")]
LearningRate = Annotated[float, typer.Option("--lr", help="Learning rate at the start; it falls to 0 as a cosine.")]
L1 = Annotated[float, typer.Option("--l1", help="Weight of the term that holds each layer's coefficients to norm 1.")]
Shots = Annotated[
    int | None, typer.Option("--shots", help="Learn from this many images of each class only, chosen by the seed.")
]


def add(
    path: options.BankPath,
    references: options.References,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of a single task. Default: the reference with '-' for '/'.")
    ] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = 128,
    lr: LearningRate = 0.03,
    l1: L1 = 0.0,
    granularity: Annotated[
        int,
        typer.Option(
            "--granularity",
            help="Groups of output channels in each layer with coefficients of their own: the dial "
            "between bytes and accuracy. 1 is the paper.",
        ),
    ] = 1,
    alpha_dtype: Annotated[
        AlphaTypeChoice, typer.Option("--alpha-dtype", help="float16 takes half the bytes a coefficient.")
    ] = AlphaTypeChoice.float32,
    shots: Shots = None,
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
    from impress_learn.requests import request_tasks, still_to_add, training_steps
    from impress_learn.tasks import add_task

    requests = request_tasks(
        tasks,
        name=name,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        l1=l1,
        granularity=granularity,
        alpha_type=alpha_dtype.value,
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
    _print_learned(
        f"{path}: {len(added)} tasks added over {len(loaded.basis)} masks", added, held_out=bool(holdout), json=json
    )


def update(
    path: options.BankPath,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name or reference of a stored task.")],
    reference: Annotated[str, typer.Argument(metavar="REF", help="The data to go on with, STREAM/KEY.")],
    epochs: Epochs = None,
    batch_size: BatchSize = 128,
    lr: LearningRate = 0.003,
    l1: L1 = 0.0,
    shots: Shots = None,
    holdout: options.Holdout = 0.0,
    seed: options.Seed = 0,
    device: options.DeviceOption = options.Device.auto,
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Go on with a stored task on other data (drift), from the coefficients it has; its file is replaced.

    Given again with the same settings it changes nothing, so that an interrupted update can be repeated.

    Example: impress task update digits.impress rotated-digits-15 rotated-digits/20 --shots 5
    """
    from impress_format.bank import open_bank
    from impress_format.errors import UsageError
    from impress_learn.plan import require_fit
    from impress_learn.streams.reference import parse_references

    bank = open_bank(path)
    references = parse_references([reference])
    if len(references) != 1:
        raise UsageError(f"{reference} names {len(references)} tasks: a task is updated with one")
    require_fit(references, bank.backbone)
    bank.complete_masks()

    from impress_cli.runtime import choose_device, data_folder
    from impress_learn.evaluate import load_bank
    from impress_learn.requests import plan_fit, request_update, training_steps
    from impress_learn.tasks import add_task, stored_task

    fit = plan_fit(
        references[0], epochs=epochs, batch_size=batch_size, lr=lr, l1=l1, shots=shots, holdout=holdout, seed=seed
    )
    request = request_update(bank, task, references[0], fit)
    if request is None:
        render.remark("updated with these settings already: give another --seed to go on once more", quiet=quiet)
        learned = stored_task(bank, bank.find_task(task))
    else:
        loaded = load_bank(bank, choose_device(device))
        with render.progress(training_steps(request), "steps", quiet=quiet) as (describe, step):
            describe(f"{request.name}: {request.reference}")
            learned = add_task(loaded, request, data_dir=data_folder(data_dir), on_step=step)
    _print_learned(f"{path}: {learned.name} goes on", [learned], held_out=bool(holdout), json=json)


def _print_learned(title: str, tasks: Sequence[AddedTask], *, held_out: bool, json: bool) -> None:
    if json:
        render.print_json({"tasks": [asdict(task) for task in tasks]})
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
        for task in tasks
    ]
    mean = sum(task.accuracy for task in tasks) / len(tasks)
    render.print_table(
        title,
        ("task", "coefficients", "on disk", "accuracy", "in training", "time"),
        rows,
        footer=f"mean accuracy {render.percent(mean)}" + (" on held-out training images" if held_out else ""),
    )
