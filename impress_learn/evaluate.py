"""Accuracy of tasks and masks: with the task known (GG), and with a wrong mask as control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, OutOfMemory
from impress_learn.backbone import Backbone, calibrate, rebuild_backbone
from impress_learn.combine import Basis, effective_weights, make_basis
from impress_learn.memory import explain_memory
from impress_learn.plan import check_held_out, check_masks_held_out
from impress_learn.streams.data import Images, normalise
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_references

_BATCH = 1000
_MOST_WRONG_MASKS = 10


@dataclass(frozen=True)
class LoadedBank:
    """A bank in memory, ready to run: network, basis, and the images its norm statistics come from (if any)."""

    bank: Bank
    backbone: Backbone
    basis: Basis
    calibration: Tensor | None

    def logits(self, effective: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits (batch, classes) of normalised images; an image's do not depend on the others beside it.

        Args:
            effective: of `task_weights` or `mask_weights`, norm statistics included.
        """
        with torch.no_grad():
            return self.backbone(effective, images)

    def mask_weights(self, index: int) -> Mapping[str, Tensor]:
        """Effective weights under one mask alone, and the norm statistics under them."""
        effective = {
            name: stack[index].reshape(self.basis.shapes[name]) for name, stack in self.basis.masked_weights.items()
        }
        return calibrate(self.backbone, effective, self.calibration)

    def task_weights(self, name: str) -> Mapping[str, Tensor]:
        """Effective weights of a stored task, and the norm statistics under them."""
        record, alpha = self.bank.read_task(name)
        coefficients = torch.from_numpy(alpha).to(self.basis.device)
        effective = effective_weights(self.basis.first(len(alpha)), coefficients, record.granularity)
        return calibrate(self.backbone, effective, self.calibration)


def load_bank(bank: Bank, device: torch.device) -> LoadedBank:
    """Rebuild the backbone and read all masks.

    Raises:
        BackboneMismatch: the rebuilt backbone has another digest.
        BankMismatch: masks are still to be trained.
        FormatError: a file is damaged.
        OutOfMemory: the masks do not fit.
    """
    backbone = rebuild_backbone(bank.backbone).to(device)
    masks = [bank.read_mask(index)[1] for index in range(bank.complete_masks())]
    supermasks = [{name: torch.from_numpy(mask) for name, mask in layers.items()} for layers in masks]
    one = 4 * bank.backbone.weights
    with explain_memory(
        f"loading {len(masks):,} masks of {bank.backbone.weights:,} weights, {len(masks) * one / 1e9:,.1f} GB in all",
        device,
        lambda free: f"about {free // one:,} masks of this backbone fit",
    ):
        return LoadedBank(bank, backbone, make_basis(backbone, supermasks), load_calibration(bank, device))


def load_calibration(bank: Bank, device: torch.device) -> Tensor | None:
    """The bank's calibration images, normalised, or None for networks that need none."""
    if not bank.manifest.calibration:
        return None
    record, pixels = bank.read_calibration()
    return normalise(torch.from_numpy(pixels).to(device), record.mean, record.std)


def accuracy(backbone: Backbone, effective: Mapping[str, Tensor], images: Images, calibration: Tensor | None) -> float:
    """Share of images whose largest logit is that of their label."""
    effective = calibrate(backbone, effective, calibration)
    right = torch.zeros((), dtype=torch.int64, device=images.device)
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
                right += (backbone(effective, batch).argmax(1) == labels).sum()
        except OutOfMemory:
            if size == 1:
                raise
            size = -(-size // 4)  # each image is judged alone, so that smaller batches give the same answers
        else:
            start += size
    return int(right) / len(images)


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


def wrong_mask_accuracy(loaded: LoadedBank, task: str, images: Images) -> float:
    """Mean accuracy under masks that were trained for other tasks (paper, Fig. 2: the control)."""
    accuracies = [
        accuracy(loaded.backbone, loaded.mask_weights(index), images, None) for index in wrong_masks(loaded.bank, task)
    ]
    return sum(accuracies) / len(accuracies)


MeasuredOn = Literal["test", "held-out"]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one task or mask: its reference, its name in the bank, share of right answers, images asked.

    `images` says which: the test images, or training images that were held out.
    """

    task: str
    name: str
    accuracy: float
    samples: int
    images: MeasuredOn


def measured_on(holdout: float) -> MeasuredOn:
    return "held-out" if holdout > 0 else "test"


def evaluate_tasks(
    loaded: LoadedBank,
    names: Sequence[str],
    *,
    wrong: bool,
    holdout: float,
    data_dir: Path | None,
    on_task: Callable[[], None],
) -> list[Accuracy]:
    """Each stored task on its own images under its own weights (GG), or under wrong masks.

    Args:
        holdout: 0 for the test images, else the share of training images that is held out.

    Raises:
        UsageError: a task or a mask beneath it was trained on images that would be held out.
    """
    records = [loaded.bank.read_task_record(name) for name in names]
    for record in records:
        check_held_out(record.name, record.task, record.fit.holdout, holdout)
        check_masks_held_out(loaded.bank.manifest.masks, record.task, holdout)
    results = []
    for record in records:
        name, task = record.name, record.task
        images = _images(task, holdout, data_dir, loaded.basis.device)
        share = (
            wrong_mask_accuracy(loaded, task, images)
            if wrong
            else accuracy(loaded.backbone, loaded.task_weights(name), images, None)
        )
        results.append(Accuracy(task, name, share, len(images), measured_on(holdout)))
        on_task()
    return results


def evaluate_masks(
    loaded: LoadedBank, *, wrong: bool, holdout: float, data_dir: Path | None, on_task: Callable[[], None]
) -> list[Accuracy]:
    """Each trained mask on the images of its own task, or that task under wrong masks.

    Raises:
        BankMismatch: the bank has random masks only.
        UsageError: a mask was trained on images that would be held out.
    """
    for index, plan in enumerate(loaded.bank.manifest.masks):
        if plan.task is not None and plan.fit is not None:
            check_held_out(f"mask {index}", plan.task, plan.fit.holdout, holdout)
            check_masks_held_out(loaded.bank.manifest.masks if wrong else (), plan.task, holdout)
    results = []
    for index, plan in enumerate(loaded.bank.manifest.masks):
        on_task()
        if plan.task is None:
            continue
        images = _images(plan.task, holdout, data_dir, loaded.basis.device)
        share = (
            wrong_mask_accuracy(loaded, plan.task, images)
            if wrong
            else accuracy(loaded.backbone, loaded.mask_weights(index), images, None)
        )
        name = f"mask {index} ({plan.task})"
        results.append(Accuracy(plan.task, name, share, len(images), measured_on(holdout)))
    if not results:
        raise BankMismatch(f"{loaded.bank.path} has random masks only: none was trained for a task")
    return results


def _images(task: str, holdout: float, data_dir: Path | None, device: torch.device) -> Images:
    data = load_task(parse_references([task])[0], data_dir=data_dir, holdout=holdout)
    return data.measured(holdout=holdout).to(device)
