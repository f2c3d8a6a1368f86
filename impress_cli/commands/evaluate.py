"""`impress eval`."""

from __future__ import annotations

from typing import Annotated

import typer

from impress_cli import options, render
from impress_cli.commands.evaluate_gn import Asked, Method, check_options, print_basis_gn, print_gn
from impress_format.errors import TaskNotFound, UsageError


def evaluate(
    path: options.BankPath,
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TASK...]", help="Names or references of stored tasks. Default: all.", show_default=False
        ),
    ] = None,
    gg: Annotated[
        bool, typer.Option("--gg", help="The task is known: each runs under its own weights (default).")
    ] = False,
    wrong_mask: Annotated[
        bool, typer.Option("--wrong-mask", help="Control: each task under masks trained for other tasks.")
    ] = False,
    gn: Annotated[
        bool, typer.Option("--gn", help="The task is not known: it is inferred from groups of unlabelled images.")
    ] = False,
    basis_gn: Annotated[
        bool,
        typer.Option(
            "--basis-gn",
            help="The masks' own tasks by alpha fitted from uniform WITH labels, beside their masks and --gn.",
        ),
    ] = False,
    method: Annotated[
        Method | None,
        typer.Option("--method", help="How --gn infers the task. Default: auto.", show_default=False),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Images that share one unknown task. Default: 128.")
    ] = None,
    groups: Annotated[
        int | None, typer.Option("--groups", help="Groups of images asked of each task, at most. Default: 64.")
    ] = None,
    foreign: Annotated[
        list[str] | None,
        typer.Option("--foreign", metavar="REF", help="With --gn: tasks the bank does not have; are they refused?"),
    ] = None,
    basis: Annotated[
        bool, typer.Option("--basis", help="Evaluate the bank's masks on the tasks they were trained for instead.")
    ] = False,
    holdout: options.Holdout = 0.0,
    seed: options.Seed = 0,
    device: options.DeviceOption = options.Device.auto,
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure accuracy on test images."""
    from impress_format.bank import open_bank

    if sum((gg, gn, basis_gn, wrong_mask)) > 1:
        raise UsageError("--gg, --gn, --basis-gn and --wrong-mask exclude each other")
    if basis and (gn or basis_gn):
        raise UsageError("--basis goes with --gg and --wrong-mask: --gn and --basis-gn ask about the masks anyway")
    check_options(gn, basis_gn, {"--method": method, "--foreign": foreign}, {"--samples": samples, "--groups": groups})
    if not 0.0 <= holdout < 1.0:
        raise UsageError(f"--holdout {holdout}: expected a number from 0 to below 1")
    bank = open_bank(path)
    if basis and tasks:
        raise UsageError("--basis evaluates the masks: leave out the names of tasks")
    if gn or basis_gn:
        bank.complete_masks()
        asked = Asked(samples=samples or 128, groups=groups or 64, holdout=holdout, seed=seed, json=json, quiet=quiet)
        if gn:
            method = method or Method.auto
            print_gn(bank, tasks or [], method, foreign or [], asked, device=device, data_dir=data_dir)
        else:
            print_basis_gn(bank, tasks or [], asked, device=device, data_dir=data_dir)
        return
    names = [bank.find_task(task) for task in tasks] if tasks and not basis else bank.task_names()
    if not names and not basis:
        raise TaskNotFound(f"{path} has no task yet: add one with `impress task add`, or use --basis")
    bank.complete_masks()

    from impress_cli.runtime import choose_device, data_folder
    from impress_learn.evaluate import evaluate_masks, evaluate_tasks, load_bank

    loaded = load_bank(bank, choose_device(device))
    count = len(names) if not basis else len(bank.manifest.masks)
    with render.progress(count, "tasks", quiet=quiet) as (_, step):
        if basis:
            results = evaluate_masks(
                loaded, wrong=wrong_mask, holdout=holdout, data_dir=data_folder(data_dir), on_task=step
            )
        else:
            results = evaluate_tasks(
                loaded, names, wrong=wrong_mask, holdout=holdout, data_dir=data_folder(data_dir), on_task=step
            )
    mean = sum(result.accuracy for result in results) / len(results)
    setting = "wrong-mask" if wrong_mask else "gg"
    if json:
        rows = [{"task": r.task, "name": r.name, "accuracy": r.accuracy, "samples": r.samples} for r in results]
        render.print_json(
            {
                "setting": setting,
                "method": "known-task",
                "tasks": rows,
                "mean_accuracy": mean,
                "samples": sum(r.samples for r in results),
            }
        )
        return
    explanation = "under masks of other tasks (control)" if wrong_mask else "task known (GG)"
    render.print_table(
        f"{path}: accuracy, {explanation}",
        ("task", "images", "accuracy"),
        [(result.name, f"{result.samples:,}", render.percent(result.accuracy)) for result in results],
        footer=f"mean accuracy {render.percent(mean)}" + (" on held-out training images" if holdout else ""),
    )
