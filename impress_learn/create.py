"""Training the masks of a bank: what is planned and not there yet, one file after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from impress_format.bank import Bank
from impress_format.errors import TrainingDiverged
from impress_format.files import exclusive, remove_abandoned
from impress_format.identity import write_identity
from impress_format.records import MaskPlan
from impress_learn.backbone import Backbone, rebuild_backbone
from impress_learn.evaluate import accuracy, load_calibration
from impress_learn.features import image_features
from impress_learn.identity import fit_identity, load_identifier, sign_task
from impress_learn.schedule import steps_per_epoch, train_images
from impress_learn.streams.data import Images
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import Reference, parse_references
from impress_learn.supermask import random_supermask, train_supermask

CALIBRATION_IMAGES = 256
"""Images kept for BatchNorm statistics: as many as gave the accuracy of batch statistics (method.md)."""
IDENTITY_TASKS = 64
"""Tasks that identity statistics are taken from."""


@contextmanager
def sole_trainer(bank: Bank) -> Iterator[None]:
    """Hold the bank for training, so that two runs do not train the same masks.

    Raises:
        StorageError: another process is at it.
    """
    with exclusive(bank.path, wait=False):
        for folder in (bank.path, bank.path / "masks"):
            remove_abandoned(folder)
        yield


def training_steps(bank: Bank) -> int:
    """Steps that training the missing masks takes."""
    return sum(_steps(bank.manifest.masks[index]) for index in bank.missing_masks())


def train_missing_masks(
    bank: Bank,
    *,
    data_dir: Path,
    device: torch.device,
    on_mask: Callable[[int], None],
    on_step: Callable[[], None],
) -> None:
    """Train and store every planned mask that has no file yet.

    Equal plans give equal bytes on one machine: each mask depends on its own plan alone, not on the others.

    Args:
        on_mask: called with the index of each mask before it is trained.

    Raises:
        TrainingDiverged, DataError, StorageError: masks finished before stay stored.
    """
    missing = bank.missing_masks()
    if not missing:
        return
    backbone = rebuild_backbone(bank.backbone).to(device)
    for index in missing:
        on_mask(index)
        _train_one(bank, index, backbone, data_dir, device, on_step)


def keep_calibration_images(bank: Bank, references: Sequence[Reference], *, data_dir: Path, holdout: float) -> None:
    """Store training images of `references`, spread as evenly as it goes, if the bank's network has BatchNorm."""
    if not bank.manifest.calibration or bank.calibration_path.exists():
        return
    parts: list[Images] = []
    chosen, counts = (torch.arange(CALIBRATION_IMAGES) * len(references) // CALIBRATION_IMAGES).unique_consecutive(
        return_counts=True
    )
    for number, count in zip(chosen.tolist(), counts.tolist(), strict=True):
        train = load_task(references[number], data_dir=data_dir, holdout=holdout).train
        parts.append(train.subset(torch.linspace(0, len(train) - 1, count).long()))
    pixels = torch.cat([part.pixels for part in parts])
    bank.write_calibration(pixels.numpy(), parts[0].mean, parts[0].std)


def keep_identity(
    bank: Bank, references: Sequence[Reference], *, data_dir: Path, holdout: float, device: torch.device
) -> None:
    """Store the statistics that signatures of tasks are made with, from training images of `references`.

    Up to 64 of them, evenly spread, are enough for statistics, and one task's images at a time for memory.
    """
    if not bank.manifest.identity or bank.identity_path.exists():
        return
    backbone = rebuild_backbone(bank.backbone).to(device)
    calibration = load_calibration(bank, device)
    distinct = list(dict.fromkeys(references))
    chosen = torch.linspace(0, len(distinct) - 1, min(len(distinct), IDENTITY_TASKS)).round().long().tolist()
    means, covariance = [], torch.zeros((), dtype=torch.float64)
    for number in chosen:
        train = load_task(distinct[number], data_dir=data_dir, holdout=holdout).train.to(device)
        features = image_features(backbone, train, calibration).double().cpu()
        means.append(features.mean(0))
        covariance = covariance + torch.cov(features.T) / len(chosen)
    write_identity(bank, fit_identity(torch.stack(means), covariance), train.mean, train.std)


def _train_one(
    bank: Bank, index: int, backbone: Backbone, data_dir: Path, device: torch.device, on_step: Callable[[], None]
) -> None:
    plan = bank.manifest.masks[index]
    if plan.fit is None or plan.task is None:
        masks = random_supermask(bank.backbone, density=plan.density, seed=plan.seed)
        measured = signature = None
    else:
        data = load_task(_reference(plan.task), data_dir=data_dir, holdout=plan.fit.holdout).to(device)
        try:
            masks = train_supermask(
                backbone,
                data.train,
                density=plan.density,
                epochs=plan.fit.epochs,
                batch_size=plan.fit.batch_size,
                lr=plan.fit.lr,
                score_seed=plan.seed,
                order_seed=plan.fit.seed,
                on_step=on_step,
            )
        except TrainingDiverged as error:
            raise TrainingDiverged(f"mask {index} ({plan.task}): {error}") from error
        effective = {name: weight * masks[name].to(device) for name, weight in backbone.weights.items()}
        calibration = load_calibration(bank, device)
        measured = accuracy(backbone, effective, data.measured(holdout=plan.fit.holdout), calibration)
        signature = sign_task(load_identifier(bank, device), backbone, data.train, calibration)
    bank.write_mask(index, {name: mask.numpy() for name, mask in masks.items()}, measured, signature)


def _steps(plan: MaskPlan) -> int:
    if plan.fit is None or plan.task is None:
        return 0
    images = train_images(_reference(plan.task).stream, plan.fit.holdout)
    return plan.fit.epochs * steps_per_epoch(images, plan.fit.batch_size)


def _reference(task: str) -> Reference:
    return parse_references([task])[0]
