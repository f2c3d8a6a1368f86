"""`impress eval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render
from impress_cli.commands.infer_tasks import MethodChoice, fit_and_print, infer_and_print
from impress_cli.shared import Compute, Data, Output, command
from impress_format.errors import UsageError
from impress_learn.training.config import TaskTraining

if TYPE_CHECKING:
    from pathlib import Path

    from impress_learn.running.accuracy import Accuracy, Confusion

_MOST_ANSWERS = 5
"""Classes that one was taken for, in a table that is printed; JSON has all."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured: the task known (the default), inferred, or fitted."""

    gg: Annotated[bool, typer.Option("--gg", help="The task is known: each runs under its own weights (default).")] = (
        False
    )
    gn: Annotated[
        bool, typer.Option("--gn", help="The task is not known: it is inferred from the images, among all of the bank.")
    ] = False
    basis_gn: Annotated[
        bool,
        typer.Option(
            "--basis-gn",
            help="Learn coefficients, with labels, for the tasks of the bank's masks, without and with the L1 term.",
        ),
    ] = False
    wrong_mask: Annotated[
        bool,
        typer.Option(
            "--wrong-mask",
            help="Controls: each task under masks trained for other tasks, and under the one that does best on its "
            "training images.",
        ),
    ] = False
    confusion: Annotated[bool, typer.Option("--confusion", help="Also print which classes were taken for which.")] = (
        False
    )
    basis: Annotated[
        bool, typer.Option("--basis", help="Evaluate the bank's masks on the tasks they were trained for instead.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The images that GN is measured on, and how the task of a group of them is found."""

    holdout: Annotated[float, options.TRAINING_OPTIONS["holdout"]] = 0.0
    method: Annotated[
        MethodChoice | None,
        typer.Option("--method", help="With --gn, how the task is inferred. Default: auto.", show_default=False),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", help="With --gn and --basis-gn, images that share one task. Default: 128.", show_default=False
        ),
    ] = None
    epochs: Annotated[int | None, typer.Option("--epochs", help="With --basis-gn, passes over the data.")] = None
    groups: Annotated[
        int | None,
        typer.Option("--groups", help="With --gn, at most this many groups a task. Default: 100.", show_default=False),
    ] = None


@command
def evaluate(
    path: options.BankPath,
    *,
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TASK...]", help="Names or references of stored tasks. Default: all.", show_default=False
        ),
    ] = None,
    setting: Setting,
    sampling: Sampling,
    compute: Compute,
    data: Data,
    output: Output,
) -> None:
    """Measure accuracy on test images.

    Example, with the task inferred from 16 images at a time: impress eval digits.impress --gn --samples 16
    """
    gn, basis_gn, basis, wrong_mask = setting.gn, setting.basis_gn, setting.basis, setting.wrong_mask
    method, samples, groups, holdout = sampling.method, sampling.samples, sampling.groups, sampling.holdout
    if sum((setting.gg, gn, basis_gn, wrong_mask)) > 1:
        raise UsageError("--gg, --gn, --basis-gn and --wrong-mask exclude each other")
    if setting.confusion and (gn or basis_gn or wrong_mask):
        raise UsageError("--confusion is of tasks under their own weights: leave out --gn, --basis-gn, --wrong-mask")
    if sampling.epochs is not None and not basis_gn:
        raise UsageError("--epochs belongs to --basis-gn: nothing else is trained here")
    group = 128 if samples is None else samples
    if basis_gn:
        if tasks or basis:
            raise UsageError("--basis-gn is about the masks of the bank: leave out names of tasks and --basis")
        if (method, groups) != (None, None):
            raise UsageError("--method and --groups belong to --gn")
        fit = TaskTraining(epochs=sampling.epochs, holdout=holdout, seed=compute.seed)
        fit_and_print(path, compute, data, output, fit=fit, samples=group)
        return
    if gn:
        if basis:
            raise UsageError("--gn asks about the tasks of masks too: leave out --basis")
        infer_and_print(
            path,
            tasks or (),
            compute,
            data,
            output,
            method=(method or MethodChoice.auto).value,
            samples=group,
            groups=100 if groups is None else groups,
            holdout=holdout,
        )
        return
    if (method, samples, groups) != (None, None, None):
        raise UsageError("--method, --samples and --groups belong to --gn, --samples to --basis-gn too")
    from impress_learn.jobs import evaluate as run

    with render.show_progress("tasks", quiet=output.quiet) as progress:
        results = run(
            path,
            tasks or (),
            basis=basis,
            wrong_mask=wrong_mask,
            holdout=holdout,
            device=compute.choose_device,
            data_dir=data.data_dir,
            progress=progress,
        )
    if output.json:
        _print_json(results, wrong_mask=wrong_mask, confusion=setting.confusion)
        return
    _print_table(path, results, holdout=holdout)
    if setting.confusion:
        for result in results:
            _print_confusion(result)


def _print_json(results: Sequence[Accuracy], *, wrong_mask: bool, confusion: bool) -> None:
    best = [result.best_mask.accuracy for result in results if result.best_mask is not None]
    render.print_json(
        {
            "setting": "wrong-mask" if wrong_mask else "gg",
            "method": "known-task",
            "tasks": [_row(result, confusion=confusion) for result in results],
            "mean_accuracy": mean(result.accuracy for result in results),
            **({"mean_best_mask_accuracy": mean(best)} if best else {}),
            "images": results[0].images,
            "samples": sum(result.samples for result in results),
        }
    )


def _print_table(path: Path, results: Sequence[Accuracy], *, holdout: float) -> None:
    heads = ["task", "images", "accuracy"]
    rows = [[result.name, f"{result.samples:,}", render.percent(result.accuracy)] for result in results]
    explanation, footer = "task known (GG)", f"mean accuracy {render.percent(mean(one.accuracy for one in results))}"
    best = [result.best_mask for result in results if result.best_mask is not None]
    if best:
        explanation = "under masks of other tasks (controls)"
        heads = ["task", "images", "mean mask", "best mask", "its accuracy"]
        rows = [[*row, str(one.index), render.percent(one.accuracy)] for row, one in zip(rows, best, strict=True)]
        footer += f", of the best mask {render.percent(mean(one.accuracy for one in best))}"
    render.print_table(
        f"{path}: accuracy, {explanation}",
        heads,
        rows,
        footer=footer + (" on held-out training images" if holdout else ""),
    )


def _row(result: Accuracy, *, confusion: bool) -> dict[str, object]:
    """What JSON has of one task."""
    row: dict[str, object] = {
        "task": result.task,
        "name": result.name,
        "accuracy": result.accuracy,
        "balanced_accuracy": result.balanced_accuracy,
        "samples": result.samples,
        "classes": [asdict(one) for one in result.classes],
    }
    if result.best_mask is not None:
        row["best_mask"] = asdict(result.best_mask)
    return {**row, "confusion": [asdict(one) for one in result.confusion]} if confusion else row


def _print_confusion(result: Accuracy) -> None:
    """A table of classes: what their images were taken for, how many there were, and how many were right."""
    render.print_table(
        f"{result.name}: classes",
        ("class", "taken for (images)", "images", "accuracy"),
        [
            (
                one.label,
                _listed([confused for confused in result.confusion if confused.label == one.label]),
                f"{one.images:,}",
                render.percent(one.accuracy),
            )
            for one in result.classes
        ],
        text_columns=2,
        footer=f"balanced accuracy {render.percent(result.balanced_accuracy)}",
    )


def _listed(confused: Sequence[Confusion]) -> str:
    shown = ", ".join(f"{one.answer} ({one.images:,})" for one in confused[:_MOST_ANSWERS])
    return shown + (f", and {len(confused) - _MOST_ANSWERS} more" if len(confused) > _MOST_ANSWERS else "")
