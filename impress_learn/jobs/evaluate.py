"""Accuracy of tasks and masks, the task known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import open_bank
from impress_format.errors import TaskNotFound, UsageError
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device, choose_device
from impress_learn.streams.held_out import check_basis_held_out, check_held_out
from impress_learn.training.config import check_holdout

if TYPE_CHECKING:
    from impress_learn.running.accuracy import Accuracy


def evaluate(
    path: Path | str,
    tasks: Sequence[str] = (),
    *,
    basis: bool = False,
    wrong_mask: bool = False,
    holdout: float = 0.0,
    device: Device = None,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> list[Accuracy]:
    """Accuracy of stored tasks, all if none is named, or with `basis` of the masks on their own tasks.

    Args:
        path: the bank's folder.
        tasks: stored tasks, by name or reference; all if none is named.
        basis: measure the bank's trained masks, each on the task that it was trained for.
        wrong_mask: the controls: each task under masks that were trained for other tasks, and under the one mask that
            does best on its training images (`best_mask`).
        holdout: measure on this share of the training images, held out in training, instead of the test images.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        progress: is told how it goes.

    Returns:
        For each its accuracy (0 to 1) in all and by class, how many images were asked, and what was taken for what.

    Raises:
        UsageError: an unknown task, or images that were not held out.
        DataError: data are missing, or a task was learned from a Dataset in memory.
        FormatError, BackboneMismatch, OutOfMemory.

    Examples:
        >>> from impress_learn import evaluate
        >>> [(one.name, one.accuracy) for one in evaluate("build/demo.impress")]
        [('rotated-digits-15', 0...), ('rotated-digits-75', 0...)]
    """
    check_holdout(holdout)
    bank = open_bank(path)
    if basis and tasks:
        raise UsageError("`basis` evaluates the masks: leave out the names of tasks")
    names = [bank.find_task(task) for task in tasks] if tasks else bank.task_names()
    if not names and not basis:
        raise TaskNotFound(f"{path} has no task yet: add one with `impress task add`, or use `basis`")
    bank.complete_masks()

    from impress_learn.running.accuracy import mask_items, measurable, measure, own_weights, task_items
    from impress_learn.running.controls import best_mask_of, wrong_weights
    from impress_learn.running.loaded import load_running

    items = mask_items(bank) if basis else task_items(bank, names if tasks else measurable(bank, names, progress))
    for item in items:
        name = item.name if item.mask is None else f"mask {item.mask}"
        check_held_out(name, item.task, item.holdout, holdout)
        if wrong_mask or not basis:
            check_basis_held_out(bank, item.task, holdout)
    loaded = load_running(bank, choose_device(device))
    weights_of = wrong_weights(loaded) if wrong_mask else own_weights(loaded)
    progress.begin(len(items))
    return measure(
        loaded,
        items,
        weights_of,
        best_mask_of=best_mask_of(loaded) if wrong_mask else None,
        holdout=holdout,
        data_dir=data_dir,
        progress=progress,
    )
