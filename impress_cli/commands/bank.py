"""`impress bank`: create, extend, show, pack, upgrade, verify."""

from __future__ import annotations

import time
from dataclasses import replace

import typer

from impress_cli import options, render
from impress_cli.commands.bank_report import report_bank
from impress_cli.idle_cores import say_idle_cores
from impress_cli.shared import Compute, Data, Output, Spread, Tasks, command
from impress_learn.plan.asked import FIRST_MASKS, Masks, Network
from impress_learn.training.config import MaskTraining

app = typer.Typer(help="Create, extend, show, pack, upgrade and verify banks.", no_args_is_help=True)


@app.command()
@command
def create(
    path: options.BankPath,
    *,
    masks: Masks = FIRST_MASKS,
    network: Network,
    tasks: Tasks,
    fit: MaskTraining,
    spread: Spread,
    compute: Compute,
    data: Data,
    output: Output,
) -> None:
    """Train a bank of masks. Interrupted? The same command resumes where it stopped.

    One mask is trained for each task; --masks-per-task N trains N homogeneous ones each, --masks-per-task 0 none.

    Example: impress bank create digits.impress rotated-digits/0:360:36
    """
    started = time.perf_counter()
    from impress_learn.jobs import create_bank

    with render.show_progress("steps", quiet=output.quiet) as progress:
        bank = create_bank(
            path,
            tasks.grouped(),
            network=network,
            masks=masks,
            fit=replace(fit, seed=compute.seed),
            device=compute.on(spread),
            reproducible=compute.reproducible,
            data_dir=data.data_dir,
            progress=progress,
        )
    say_idle_cores(started, fit.threads, spread, compute, output)
    report_bank(bank, started, json=output.json)


@app.command()
@command
def extend(
    path: options.BankPath,
    *,
    masks: Masks,
    tasks: Tasks,
    fit: MaskTraining,
    spread: Spread,
    compute: Compute,
    data: Data,
    output: Output,
) -> None:
    """Add masks to a bank; tasks stored before stay valid.

    A mask the bank has (same task, settings and seed) is not added twice: for more masks of one task raise
    --masks-per-task or give another --seed. Interrupted? The same command resumes where it stopped.

    Example: impress bank extend digits.impress rotated-digits/18:360:36
    """
    started = time.perf_counter()
    from impress_learn.jobs import extend_bank

    with render.show_progress("steps", quiet=output.quiet) as progress:
        bank = extend_bank(
            path,
            tasks.grouped(),
            masks=masks,
            fit=replace(fit, seed=compute.seed),
            device=compute.on(spread),
            data_dir=data.data_dir,
            progress=progress,
        )
    say_idle_cores(started, fit.threads, spread, compute, output)
    report_bank(bank, started, json=output.json)


@app.command()
@command
def show(path: options.BankPath, output: Output) -> None:
    """What a bank is: its backbone, its masks, and what heads of tasks read.

    Example: impress bank show digits.impress
    """
    started = time.perf_counter()
    from impress_format.bank import open_bank

    report_bank(open_bank(path), started, json=output.json)


@app.command()
@command
def pack(path: options.BankPath, output: Output) -> None:
    """Put all tasks into packs: many in one file, without the room that small files waste on a disk.

    Nothing else changes: packed tasks are listed, evaluated, updated and removed like others. Tasks that are added
    later are files of their own until the next pack. May be interrupted at any time.

    Example: impress bank pack digits.impress
    """
    from dataclasses import asdict

    from impress_format.bank import open_bank
    from impress_format.operations.pack import pack_tasks

    packed = pack_tasks(open_bank(path))
    if output.json:
        render.print_json({"bank": str(path), **asdict(packed)})
        return
    tasks, packs = render.count(packed.tasks, "task"), render.count(packed.packs, "pack")
    render.print_line(f"{path}: {tasks} in {packs}, {packed.bytes_before:,} B before, {packed.bytes:,} B now")
    if packed.loose:
        render.print_line(
            f"{render.count(packed.loose, 'task')} of format version 1 left as they are: run `impress bank upgrade`"
        )


@app.command()
@command
def upgrade(path: options.BankPath, output: Output) -> None:
    """Put a bank of an older format version into the current one. Nothing is trained; interrupted, run it again.

    Masks, tasks and backbone stay the same. Releases from before cannot read a bank of version 1 any more. A bank of
    version 2 that squeezes images which are not square cuts out their centre from then on.

    Example: impress bank upgrade digits.impress
    """
    from impress_learn.jobs.upgrade import upgrade_bank

    with render.show_progress("", quiet=output.quiet) as progress:
        written = upgrade_bank(path, progress)
    if output.json:
        render.print_json({"bank": str(path), "written": written})
    elif written:
        render.print_line(f"{path}: {render.count(written, 'file')} written in the current format version")
    else:
        render.print_line(f"{path} is in the current format version already")


@app.command()
@command
def verify(path: options.BankPath, output: Output) -> None:
    """Check every byte of a bank. Exit status 1 if anything is wrong.

    Example: impress bank verify digits.impress
    """
    from impress_format.operations.verify import verify_bank

    outcome = verify_bank(path)
    if output.json:
        errors = [{"file": problem.file, "error": problem.error} for problem in outcome.problems]
        unchecked = [{"file": item.file, "cause": item.cause} for item in outcome.unchecked]
        render.print_json({"ok": outcome.ok, "checked": outcome.checked, "errors": errors, "unchecked": unchecked})
    elif outcome.ok:
        render.print_line(f"{path}: {render.count(outcome.checked, 'file')} checked, all OK")
    else:
        rows = [(problem.file, problem.error) for problem in outcome.problems]
        rows += [(item.file, f"cannot be checked, because {item.cause} has a problem") for item in outcome.unchecked]
        title = f"{path}: {render.count(len(outcome.problems), 'problem')} in {render.count(outcome.checked, 'file')}"
        render.print_table(title, ("file", "problem"), rows, text_columns=2)
    if not outcome.ok:
        raise typer.Exit(1)
