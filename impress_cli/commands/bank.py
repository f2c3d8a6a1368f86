"""`impress bank`: create, extend, show, verify."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render

if TYPE_CHECKING:
    import torch

    from impress_format.bank import Bank

app = typer.Typer(help="Create, extend, show and verify banks.", no_args_is_help=True)

_DEFAULT_BATCH = 64
_DEFAULT_LR = 4.0


@app.command()
def create(
    path: options.BankPath,
    references: options.References,
    masks_per_task: options.MasksPerTask = 1,
    random_masks: options.RandomMasks = 0,
    backbone: Annotated[
        str, typer.Option("--backbone", help="lenet-300-100, or timm:NAME for any timm model.")
    ] = "lenet-300-100",
    init: Annotated[
        options.InitChoice, typer.Option("--init", help="How the frozen weights are drawn.")
    ] = options.InitChoice.signed_constant,
    density: options.Density = 0.1,
    epochs: options.MaskEpochs = None,
    batch_size: options.MaskBatch = _DEFAULT_BATCH,
    lr: options.MaskLr = _DEFAULT_LR,
    holdout: options.Holdout = 0.0,
    seed: options.Seed = 0,
    device: options.DeviceOption = options.Device.auto,
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a bank of masks. Interrupted? The same command goes on where it stopped.

    One mask is trained for each task; --masks-per-task N trains N homogeneous ones each, --masks-per-task 0 none.

    Example: impress bank create digits.impress rotated-digits/0:360:36
    """
    started = time.perf_counter()
    from impress_learn.plan import check_same_shape, plan_masks
    from impress_learn.streams.reference import parse_references

    tasks = parse_references(references)
    stream = check_same_shape(tasks)
    plans = plan_masks(
        tasks,
        masks_per_task=masks_per_task,
        random_masks=random_masks,
        density=density,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        holdout=holdout,
        seed=seed,
    )
    from impress_cli.runtime import choose_device, data_folder
    from impress_format.create import check_can_create, create_bank
    from impress_learn.backbone import build_backbone, check_batch_size
    from impress_learn.create import keep_calibration_images, keep_identity, sole_trainer

    check_can_create(path)
    torch_device = choose_device(device)
    network = build_backbone(
        backbone, init=init.value, seed=seed, input_shape=stream.input_shape, classes=stream.classes
    )
    check_batch_size(network, batch_size)
    bank = create_bank(path, network.spec, plans, calibration=network.has_batch_norm, identity=True)
    with sole_trainer(bank):
        keep_calibration_images(bank, tasks, data_dir=data_folder(data_dir), holdout=holdout)
        keep_identity(bank, tasks, data_dir=data_folder(data_dir), holdout=holdout, device=torch_device)
        _train(bank, data_folder(data_dir), torch_device, quiet=quiet)
    _report(bank, started, json=json)


@app.command()
def extend(
    path: options.BankPath,
    references: options.References,
    masks_per_task: options.MasksPerTask = 1,
    random_masks: options.RandomMasks = 0,
    density: Annotated[
        float | None, typer.Option("--density", help="Share of ones. Default: that of the bank's first mask.")
    ] = None,
    epochs: options.MaskEpochs = None,
    batch_size: options.MaskBatch = _DEFAULT_BATCH,
    lr: options.MaskLr = _DEFAULT_LR,
    holdout: options.Holdout = 0.0,
    seed: options.Seed = 0,
    device: options.DeviceOption = options.Device.auto,
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Add masks to a bank; tasks stored before stay valid.

    A mask the bank has (same task, settings and seed) is not added twice: for more masks of one task give another
    --seed. Interrupted? The same command goes on where it stopped.
    """
    started = time.perf_counter()
    from impress_format.bank import open_bank
    from impress_format.create import extend_bank
    from impress_learn.plan import plan_masks, require_fit
    from impress_learn.streams.reference import parse_references

    bank = open_bank(path)
    tasks = parse_references(references)
    require_fit(tasks, bank.backbone)
    plans = plan_masks(
        tasks,
        masks_per_task=masks_per_task,
        random_masks=random_masks,
        density=bank.manifest.masks[0].density if density is None else density,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        holdout=holdout,
        seed=seed,
    )
    from impress_cli.runtime import choose_device, data_folder
    from impress_learn.create import sole_trainer

    torch_device = choose_device(device)
    with sole_trainer(bank):
        bank = extend_bank(open_bank(path), plans)
        _train(bank, data_folder(data_dir), torch_device, quiet=quiet)
    _report(bank, started, json=json)


@app.command()
def show(
    path: options.BankPath, json: options.Json = False, quiet: options.Quiet = False, debug: options.Debug = False
) -> None:
    """What a bank is: its backbone and its masks."""
    started = time.perf_counter()
    from impress_format.bank import open_bank

    _report(open_bank(path), started, json=json)


@app.command()
def verify(
    path: options.BankPath, json: options.Json = False, quiet: options.Quiet = False, debug: options.Debug = False
) -> None:
    """Check every byte of a bank. Exit status 1 if anything is wrong."""
    from impress_format.verify import verify_bank

    outcome = verify_bank(path)
    if json:
        errors = [{"file": problem.file, "error": problem.error} for problem in outcome.problems]
        render.print_json({"ok": outcome.ok, "checked": outcome.checked, "errors": errors})
    elif outcome.ok:
        render.print_line(f"{path}: {outcome.checked} files checked, all as they should be")
    else:
        rows = [(problem.file, problem.error) for problem in outcome.problems]
        render.print_table(
            f"{path}: {len(rows)} problems in {outcome.checked} files", ("file", "problem"), rows, text_columns=2
        )
    if not outcome.ok:
        raise typer.Exit(1)


def _train(bank: Bank, data_dir: Path, device: torch.device, *, quiet: bool) -> None:
    from impress_learn.create import train_missing_masks, training_steps

    missing = bank.missing_masks()
    planned = len(bank.manifest.masks)
    if not missing:
        render.remark(f"{bank.path} is complete: all {planned} masks are there", quiet=quiet)
        return
    if len(missing) < planned:
        render.remark(f"{planned - len(missing)} of {planned} masks are there, training the rest", quiet=quiet)
    with render.progress(training_steps(bank), "steps", quiet=quiet) as (describe, step):
        train_missing_masks(
            bank,
            data_dir=data_dir,
            device=device,
            on_mask=lambda index: describe(f"mask {index + 1} of {planned}: {bank.manifest.masks[index].label}"),
            on_step=step,
        )


def _report(bank: Bank, started: float, *, json: bool) -> None:
    spec = bank.backbone
    missing = set(bank.missing_masks())
    masks = []
    for index, plan in enumerate(bank.manifest.masks):
        there = index not in missing
        masks.append(
            {
                "index": index,
                "kind": plan.kind,
                "task": plan.task,
                "seed": plan.seed,
                "density": plan.density,
                "bytes": bank.mask_path(index).stat().st_size if there else None,
                "accuracy": bank.read_mask_record(index).accuracy if there else None,
            }
        )
    if json:
        backbone = {
            "arch": spec.arch,
            "init": spec.init,
            "seed": spec.seed,
            "digest": spec.digest,
            "weights": spec.weights,
            "layers": len(spec.masked_layers),
        }
        seconds = time.perf_counter() - started
        render.print_json({"bank": str(bank.path), "backbone": backbone, "masks": masks, "seconds": seconds})
        return
    rows = [
        (
            str(mask["index"]),
            str(mask["task"] or "—"),
            str(mask["kind"]),
            f"{bank.manifest.masks[index].density:g}",
            "not trained yet" if index in missing else render.size(bank.mask_path(index).stat().st_size),
            render.percent(bank.read_mask_record(index).accuracy) if index not in missing else "—",
        )
        for index, mask in enumerate(masks)
    ]
    frozen = f"{spec.weights:,} frozen weights in {len(spec.masked_layers)} layers, seed {spec.seed}"
    render.print_table(
        f"{bank.path}: {spec.arch}, {frozen}, digest {spec.digest[:12]}",
        ("mask", "trained on", "kind", "density", "on disk", "accuracy"),
        rows,
        text_columns=3,
        footer=f"{len(bank.task_names())} tasks stored over these masks",
    )
