"""`impress bank`: create, extend, show, pack, upgrade, verify."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

import typer

from impress_cli import options, render
from impress_cli.commands.bank_report import report_bank
from impress_cli.shared import Compute, Data, Output, command
from impress_learn.fits import MaskFit

app = typer.Typer(help="Create, extend, show, pack, upgrade and verify banks.", no_args_is_help=True)


@app.command()
@command
def create(
    path: options.BankPath,
    references: options.References,
    compute: Compute,
    data: Data,
    output: Output,
    masks_per_task: options.MasksPerTask = 1,
    random_masks: options.RandomMasks = 0,
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            help="lenet-300-100; timm:NAME for any timm model; resnet-18-nfN, a ResNet-18 of N filters for small "
            "images (nf20: 1.1 M weights, nf64: 11.2 M).",
        ),
    ] = "lenet-300-100",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="SOURCE",
            help="Weights that others trained, for timm:NAME: FILE.safetensors, timm:TAG or hf-hub:OWNER/NAME, the "
            "last two also with @REVISION (commit, tag or branch). The bank names them and does not hold them.",
        ),
    ] = None,
    init: Annotated[
        options.InitChoice, typer.Option("--init", help="How the frozen weights are drawn.")
    ] = options.InitChoice.signed_constant,
    density: options.Density = 0.1,
    mask_type: Annotated[
        options.MaskTypeChoice,
        typer.Option("--mask-type", help="What the ones of a mask weigh: 1, a sign each, or a number each (8 bits)."),
    ] = options.MaskTypeChoice.binary,
    allocation: Annotated[
        options.AllocationChoice,
        typer.Option(
            "--allocation", help="Whether all layers have that density, or small ones more (Erdős–Rényi, at most 1/2)."
        ),
    ] = options.AllocationChoice.uniform,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            metavar="PIXELS",
            help="Height and width that all images are made. Default: their own; of folders what the network is made "
            "for, 32 for lenet-300-100.",
            show_default=False,
        ),
    ] = None,
    image_mode: Annotated[
        options.ImageModeChoice | None,
        typer.Option("--image-mode", help="Grey (L) or RGB. Default: as they are.", show_default=False),
    ] = None,
    adapt: Annotated[
        int,
        typer.Option(
            "--adapt",
            metavar="EPOCHS",
            help="With --weights: first move the network towards these tasks, for so many passes over their images. "
            "Kept in the bank, four bits a weight; every head gains from it, those of other tasks too.",
        ),
    ] = 0,
    groups: options.Groups = None,
    fit: MaskFit = MaskFit(),  # noqa: B008  frozen
) -> None:
    """Train a bank of masks. Interrupted? The same command resumes where it stopped.

    One mask is trained for each task; --masks-per-task N trains N homogeneous ones each, --masks-per-task 0 none.

    Example: impress bank create digits.impress rotated-digits/0:360:36
    """
    started = time.perf_counter()
    from impress_learn.jobs import create_bank

    with render.watch("steps", quiet=output.quiet) as watch:
        bank = create_bank(
            path,
            references,
            backbone=backbone,
            weights=weights,
            init=init.value,
            masks_per_task=masks_per_task,
            random_masks=random_masks,
            density=density,
            mask_type=mask_type.value,
            allocation=allocation.value,
            image_size=image_size,
            image_mode=image_mode.value if image_mode else None,
            adapt=adapt,
            groups=groups,
            fit=replace(fit, seed=compute.seed),
            device=compute.choose_device,
            data_dir=data.data_dir,
            watch=watch,
        )
    report_bank(bank, started, json=output.json)


@app.command()
@command
def extend(
    path: options.BankPath,
    references: options.References,
    compute: Compute,
    data: Data,
    output: Output,
    masks_per_task: options.MasksPerTask = 1,
    random_masks: options.RandomMasks = 0,
    density: Annotated[
        float | None, typer.Option("--density", help="Share of ones. Default: that of the bank's first mask.")
    ] = None,
    mask_type: Annotated[
        options.MaskTypeChoice | None,
        typer.Option(
            "--mask-type", help="What the ones weigh. Default: as in the bank's first mask.", show_default=False
        ),
    ] = None,
    allocation: Annotated[
        options.AllocationChoice | None,
        typer.Option(
            "--allocation",
            help="How ones are shared out to the layers. Default: as in the bank's first mask.",
            show_default=False,
        ),
    ] = None,
    groups: options.Groups = None,
    fit: MaskFit = MaskFit(),  # noqa: B008  frozen
) -> None:
    """Add masks to a bank; tasks stored before stay valid.

    A mask the bank has (same task, settings and seed) is not added twice: for more masks of one task raise
    --masks-per-task or give another --seed. Interrupted? The same command resumes where it stopped.
    """
    started = time.perf_counter()
    from impress_learn.jobs import extend_bank

    with render.watch("steps", quiet=output.quiet) as watch:
        bank = extend_bank(
            path,
            references,
            masks_per_task=masks_per_task,
            random_masks=random_masks,
            density=density,
            mask_type=mask_type.value if mask_type else None,
            allocation=allocation.value if allocation else None,
            groups=groups,
            fit=replace(fit, seed=compute.seed),
            device=compute.choose_device,
            data_dir=data.data_dir,
            watch=watch,
        )
    report_bank(bank, started, json=output.json)


@app.command()
@command
def show(path: options.BankPath, output: Output) -> None:
    """What a bank is: its backbone, its masks, and what heads of tasks read."""
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
    from impress_format.pack_tasks import pack_tasks

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

    with render.watch("", quiet=output.quiet) as watch:
        written = upgrade_bank(path, watch)
    if output.json:
        render.print_json({"bank": str(path), "written": written})
    elif written:
        render.print_line(f"{path}: {render.count(written, 'file')} written in the current format version")
    else:
        render.print_line(f"{path} is in the current format version already")


@app.command()
@command
def verify(path: options.BankPath, output: Output) -> None:
    """Check every byte of a bank. Exit status 1 if anything is wrong."""
    from impress_format.verify import verify_bank

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
