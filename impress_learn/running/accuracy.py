"""Accuracy: of tasks and masks, each on its own task's images, under whichever weights are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, DataError, OutOfMemory, listed
from impress_learn.features.features import answers_in_parts
from impress_learn.network.backbone import Backbone, Effective
from impress_learn.progress import Progress
from impress_learn.running.loaded import RunningBank
from impress_learn.running.memory import explain_memory
from impress_learn.streams.classes import TaskClasses, stored_classes, uneven_remark
from impress_learn.streams.dataset import DATASET
from impress_learn.streams.images import Images
from impress_learn.streams.reference import Reference, parse_reference

_BATCH, _MOST_NAMED = 1000, 5

MeasuredOn = Literal["test", "held-out"]
_WORDS: dict[MeasuredOn, str] = {"test": "test images", "held-out": "held-out images"}


@dataclass(frozen=True)
class Item:
    """What is measured: a stored task, or a mask (its index) on the task that it was trained for.

    `holdout` is the share of training images that it was not trained on, `classes` what it was learned to tell apart.
    """

    name: str
    task: str
    holdout: float
    classes: TaskClasses
    mask: int | None = None


WeightsOf = Callable[[Item], Iterable[Effective]]
"""The weights that an item is measured under, norm statistics included; of several, the mean accuracy counts."""


@dataclass(frozen=True)
class BestMask:
    """The strongest simple control: the mask that does best on training images, unchanged, and its accuracy."""

    index: int
    accuracy: float


BestMaskOf = Callable[[Item, Images, Images], BestMask]
"""An item, its training images, those it is measured on -> the mask that is best on the former, measured on the latter.
"""


@dataclass(frozen=True)
class ClassAccuracy:
    """One class: what it is called, how many images were of it, share of right answers (None without an image)."""

    label: str
    images: int
    accuracy: float | None


@dataclass(frozen=True)
class Confusion:
    """How many images of class `label` were taken for class `answer`."""

    label: str
    answer: str
    images: int


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one item: its reference, its name in the bank, share of right answers, images asked.

    `images` says which: the test images, or training images that were held out. `balanced_accuracy` is the mean over
    the classes that have images. `confusion` has what was taken for another class, the most frequent first; under
    several weights (the control) it counts an image once for each. `best_mask` is there beside that control.
    """

    task: str
    name: str
    accuracy: float
    samples: int
    images: MeasuredOn
    classes: tuple[ClassAccuracy, ...]
    balanced_accuracy: float
    confusion: tuple[Confusion, ...]
    best_mask: BestMask | None = None


def measure(
    loaded: RunningBank,
    items: Sequence[Item],
    weights_of: WeightsOf,
    *,
    best_mask_of: BestMaskOf | None = None,
    holdout: float,
    data_dir: Path | None,
    progress: Progress,
) -> list[Accuracy]:
    """Each item on the images of its own task. Classes go by name; what differs, or is uneven, is told.

    Args:
        weights_of: `own_weights` with the task known (GG), `wrong_weights` for the control.
        best_mask_of: finds the best single mask; None where nobody asks.
        holdout: 0 for the test images, else the share of training images that is held out.

    Raises:
        DataError, FormatError: data or a file of the bank cannot be read.
    """
    results = []
    for item in items:
        data = loaded.stored_data(
            parse_reference(item.task),
            item.name,
            item.classes,
            data_dir=data_dir,
            holdout=holdout,
            remark=progress.remark,
        )
        check_labelled(item.name, data.reference)
        images = data.measured(holdout=holdout)
        if not len(images):
            raise DataError(f"{item.name}: there is no {_WORDS[measured_on(holdout)][:-1]} of a class that it knows")
        backbone = loaded.answering(item.classes.count)
        answers = torch.stack([predictions(backbone, weights, images) for weights in weights_of(item)])
        judged = _judged(item, answers, images, measured_on(holdout))
        results.append(
            judged if best_mask_of is None else replace(judged, best_mask=best_mask_of(item, data.train, images))
        )
        if uneven := uneven_remark(item.name, item.classes, _count(images, item.classes), _WORDS[measured_on(holdout)]):
            progress.remark(uneven)
        progress.step()
    return results


def measurable(bank: Bank, names: Sequence[str], progress: Progress) -> list[str]:
    """Those of the tasks whose images have labels, as far as a packet said which they are; the others are told.

    Raises:
        DataError: there are some, and none has.
    """
    records = [bank.read_task_record(name) for name in names]
    without = [one.name for one in records if one.unlabelled]
    unsaid = [one.name for one in records if one.fit is None and one.task.startswith(f"{DATASET.name}:")]
    if without:
        progress.remark(f"{listed(without, _MOST_NAMED)}: made of images without labels: not measured")
    if unsaid:
        progress.remark(f"{listed(unsaid, _MOST_NAMED)}: came as packets without a reference: not measured")
    left = [name for name in names if name not in {*without, *unsaid}]
    if not left:
        raise DataError(f"{bank.path} has no task whose images have labels and are known: nothing to measure by")
    return left


def check_labelled(name: str, reference: Reference) -> None:
    """Refuse to measure a task by images whose labels nobody knows.

    Raises:
        DataError: naming it.
    """
    if not reference.data_set.labelled:
        raise DataError(f"{name} was made of images without labels, which say nothing of accuracy: name the others")


def _judged(item: Item, answers: Tensor, images: Images, measured: MeasuredOn) -> Accuracy:
    """What answers (weights, N) for N images come to: means over the weights."""
    classes, labels = item.classes, images.labels.expand_as(answers)
    right = labels[answers == labels].bincount(minlength=classes.count).tolist()
    counts = _count(images, classes)
    shares = [hits / (len(answers) * count) if count else None for hits, count in zip(right, counts, strict=True)]
    known = [share for share in shares if share is not None]
    wrong = answers != labels
    pairs, numbers = torch.stack([labels[wrong], answers[wrong]]).unique(dim=1, return_counts=True)
    confused = sorted(zip(numbers.tolist(), *pairs.tolist(), strict=True), key=lambda one: (-one[0], *one[1:]))
    return Accuracy(
        task=item.task,
        name=item.name,
        accuracy=sum(right) / answers.numel(),
        samples=len(images),
        images=measured,
        classes=tuple(
            ClassAccuracy(classes.label(number), count, share)
            for number, (count, share) in enumerate(zip(counts, shares, strict=True))
        ),
        balanced_accuracy=sum(known) / len(known),
        confusion=tuple(
            Confusion(classes.label(label), classes.label(answer), number) for number, label, answer in confused
        ),
    )


def _count(images: Images, classes: TaskClasses) -> list[int]:
    """How many images there are of each class."""
    found: list[int] = images.labels.bincount(minlength=classes.count).tolist()
    return found


def own_weights(loaded: RunningBank) -> WeightsOf:
    """Each item under its own weights: the task is known (GG)."""
    return lambda item: [loaded.task_weights(item.name) if item.mask is None else loaded.mask_weights(item.mask)]


def task_items(bank: Bank, names: Sequence[str]) -> list[Item]:
    """Stored tasks, to be measured."""
    records = [bank.read_task_record(name) for name in names]
    return [
        Item(record.name, record.task, record.holdout, stored_classes(bank, record.task, record)) for record in records
    ]


def mask_items(bank: Bank) -> list[Item]:
    """The trained masks of a bank, to be measured.

    Raises:
        BankMismatch: the bank has random masks only.
    """
    items = [
        Item(f"mask {index} ({plan.task})", plan.task, plan.fit.holdout, stored_classes(bank, plan.task, None), index)
        for index, plan in enumerate(bank.manifest.masks)
        if plan.task is not None and plan.fit is not None
    ]
    if not items:
        raise BankMismatch(f"{bank.path} has random masks only: none was trained for a task")
    return items


def accuracy(backbone: Backbone, effective: Effective, images: Images) -> float:
    """Share of images whose largest logit is that of their label.

    Args:
        backbone: `answering` for the classes of the task.
        effective: norm statistics included.
    """
    answers = predictions(backbone, effective, images)
    return int((answers == images.labels).sum()) / len(images)


def predictions(backbone: Backbone, effective: Effective, images: Images) -> Tensor:
    """The class with the largest logit, int64 (N,).

    Args:
        backbone: `answering` for the classes of the task.
        effective: norm statistics included.

    Raises:
        OutOfMemory: for a single image.
    """
    answers = torch.zeros(len(images), dtype=torch.int64, device=images.device)
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
                batch, _ = images.batch(slice(start, start + size))
                logits = answers_in_parts(partial(backbone, effective), batch)
                answers[start : start + size] = logits.argmax(1)
        except OutOfMemory:
            if size == 1:
                raise
            size = -(-size // 4)  # each image is judged alone, so that smaller batches give the same answers
        else:
            start += size
    return answers


def measured_on(holdout: float) -> MeasuredOn:
    return "held-out" if holdout > 0 else "test"
