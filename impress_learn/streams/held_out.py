"""Images kept apart from training: how many, and for which tasks and masks they are held out indeed."""

from __future__ import annotations

from impress_format.bank import Bank
from impress_format.tasks.record import TaskRecord
from impress_learn.streams.set_apart import count_held_out
from impress_learn.streams.stream import DataSet
from impress_learn.streams.table import read_alike, share_images
from impress_learn.training.config import require


def count_training(data_set: DataSet, holdout: float, shots: int | None = None) -> int:
    """Images that a task made from these is learned from."""
    images = data_set.train_images
    kept = images - count_held_out(images, holdout)
    return kept if shots is None else shots * data_set.classes


def check_held_out(name: str, task: str, trained: float, asked: float) -> None:
    """Refuse to call images held out that a task or a mask was trained on. Held-out sets are nested.

    Args:
        trained: the share that was held out when `name` was trained on `task`.
        asked: the share that is to be held out now; 0 asks for the test images.

    Raises:
        UsageError: `asked` is more.
    """
    require(
        asked <= trained,
        f"`holdout` {asked:g}: {name} ({task}) was trained on "
        + (f"all but {trained:g} of the training images" if trained else "all training images")
        + ", so that they are not held out for it; use "
        + (f"`holdout` {trained:g} or less, or " if trained else "")
        + "the test images (`holdout` 0)",
    )


def check_basis_held_out(bank: Bank, task: str, holdout: float) -> None:
    """Refuse to hold out images of `task` that what a bank's tasks stand on, its masks and the projection of features,
    was made of, however they were turned there.

    Measured: a basis that saw the images gives 96.4 % "held out" where the test images give 89.5 (docs/trials.md).

    Raises:
        UsageError: naming the first such mask, or the projection.
        FormatError: the projection is damaged.
    """
    if not holdout:
        return
    for index, plan in enumerate(bank.manifest.masks):
        if plan.fit is not None and plan.task is not None:
            _require_held_out(f"mask {index} ({plan.task})", plan.task, plan.fit.holdout, task, holdout)
    if bank.has_projection:
        record = bank.projection_record
        for made_of in record.tasks:
            _require_held_out(f"the projection of {made_of}", made_of, record.holdout, task, holdout)


def check_same_split(bank: Bank, task: str, start: str | None = None) -> None:
    """Refuse a task of a folder that was read otherwise for what the task stands on: that has learned from images which
    would be tested on.

    Args:
        start: the reference of the stored task that it resumes from.

    Raises:
        UsageError: naming the first such mask, the projection, or the task.
        FormatError: the projection is damaged.
    """
    made_of = [(f"mask {index}", plan.task) for index, plan in enumerate(bank.manifest.masks) if plan.task is not None]
    if bank.has_projection:
        made_of += [("the projection", one) for one in bank.projection_record.tasks]
    if start is not None:
        made_of.append(("the stored task", start))
    for what, other in made_of:
        require(
            not other.startswith("folder:") or read_alike(other, task) or not share_images(other, task),
            f"{what} was made of {other}; {task} reads the same folder otherwise, and would test on images that were "
            "learned from: give the same reference and `groups`, or create a bank with these",
        )


def check_start_held_out(start: TaskRecord, task: str, holdout: float) -> None:
    """Refuse to hold out images that the stored task has learned from which another begins.

    Raises:
        UsageError: it held out fewer.
    """
    if share_images(start.task, task):
        check_held_out(start.name, start.task, start.holdout, holdout)


def _require_held_out(what: str, made_of: str, trained: float, task: str, holdout: float) -> None:
    require(
        holdout <= trained or not share_images(made_of, task),
        f"`holdout` {holdout:g}: {what} was trained on these images"
        + (f" (it held out {trained:g})" if trained else "")
        + f", so that accuracy on them would be too good: create the bank with `holdout` {holdout:g} too",
    )
