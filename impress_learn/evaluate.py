"""Accuracy: of tasks and masks, each on its own task's images, under whichever weights are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, OutOfMemory
from impress_learn.loaded import LoadedBank
from impress_learn.memory import explain_memory
from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.streams.images import Images
from impress_learn.streams.reference import parse_reference

_BATCH = 1000
_MOST_WRONG_MASKS = 10

MeasuredOn = Literal["test", "held-out"]


@dataclass(frozen=True)
class Item:
    """What is measured: a stored task, or a mask (its index) on the task that it was trained for.

    `holdout` is the share of training images that it was not trained on.
    """

    name: str
    task: str
    holdout: float
    mask: int | None = None


WeightsOf = Callable[[Item], Iterable[Mapping[str, Tensor]]]
"""The weights that an item is measured under, norm statistics included; of several, the mean accuracy counts."""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one item: its reference, its name in the bank, share of right answers, images asked.

    `images` says which: the test images, or training images that were held out.
    """

    task: str
    name: str
    accuracy: float
    samples: int
    images: MeasuredOn


def measure(
    loaded: LoadedBank,
    items: Sequence[Item],
    weights_of: WeightsOf,
    *,
    holdout: float,
    data_dir: Path | None,
    on_item: Callable[[], None],
) -> list[Accuracy]:
    """Each item on the images of its own task.

    Args:
        weights_of: `own_weights` with the task known (GG), `wrong_weights` for the control.
        holdout: 0 for the test images, else the share of training images that is held out.

    Raises:
        DataError, FormatError: data or a file of the bank cannot be read.
    """
    results = []
    for item in items:
        data = loaded.task_data(parse_reference(item.task), data_dir=data_dir, holdout=holdout)
        images = data.measured(holdout=holdout)
        shares = [accuracy(loaded.backbone, weights, images, None) for weights in weights_of(item)]
        share = sum(shares) / len(shares)
        results.append(Accuracy(item.task, item.name, share, len(images), measured_on(holdout)))
        on_item()
    return results


def own_weights(loaded: LoadedBank) -> WeightsOf:
    """Each item under its own weights: the task is known (GG)."""
    return lambda item: [loaded.task_weights(item.name) if item.mask is None else loaded.mask_weights(item.mask)]


def wrong_weights(loaded: LoadedBank) -> WeightsOf:
    """Each item under masks that were trained for other tasks (paper, Fig. 2: the control)."""
    return lambda item: (loaded.mask_weights(index) for index in wrong_masks(loaded.bank, item.task))


def task_items(bank: Bank, names: Sequence[str]) -> list[Item]:
    """Stored tasks, to be measured."""
    records = [bank.read_task_record(name) for name in names]
    return [Item(record.name, record.task, record.fit.holdout) for record in records]


def mask_items(bank: Bank) -> list[Item]:
    """The trained masks of a bank, to be measured.

    Raises:
        BankMismatch: the bank has random masks only.
    """
    items = [
        Item(f"mask {index} ({plan.task})", plan.task, plan.fit.holdout, index)
        for index, plan in enumerate(bank.manifest.masks)
        if plan.task is not None and plan.fit is not None
    ]
    if not items:
        raise BankMismatch(f"{bank.path} has random masks only: none was trained for a task")
    return items


def wrong_masks(bank: Bank, task: str) -> list[int]:
    """Masks trained for other tasks than `task`, at most ten, evenly spread over the bank.

    Raises:
        BankMismatch: there is none.
    """
    others = [index for index, plan in enumerate(bank.manifest.masks) if plan.task not in (None, task)]
    if not others:
        raise BankMismatch(f"no mask of {bank.path} was trained for another task than {task}: there is no wrong one")
    step = -(-len(others) // _MOST_WRONG_MASKS)
    return others[::step]


def accuracy(backbone: Backbone, effective: Mapping[str, Tensor], images: Images, calibration: Tensor | None) -> float:
    """Share of images whose largest logit is that of their label."""
    right = right_answers(backbone, with_statistics(backbone, effective, calibration), images)
    return int(right.sum()) / len(images)


def right_answers(backbone: Backbone, effective: Mapping[str, Tensor], images: Images) -> Tensor:
    """Whether the largest logit is that of the label, bool (N,).

    Args:
        effective: norm statistics included.

    Raises:
        OutOfMemory: for a single image.
    """
    right = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    size = min(_BATCH, len(images))
    start = 0
    while start < len(images):
        try:
            with (
                explain_memory(
                    f"measuring accuracy on {size:,} images at once",
                    images.device,
                    lambda _: "free some, or use `device` cpu",
                ),
                torch.no_grad(),
            ):
                batch, labels = images.batch(slice(start, start + size))
                right[start : start + size] = backbone(effective, batch).argmax(1) == labels
        except OutOfMemory:
            if size == 1:
                raise
            size = -(-size // 4)  # each image is judged alone, so that smaller batches give the same answers
        else:
            start += size
    return right


def measured_on(holdout: float) -> MeasuredOn:
    return "held-out" if holdout > 0 else "test"
