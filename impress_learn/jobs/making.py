"""What a bank plans and has not yet, one file after the other: its masks, and what it keeps once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.bank_files.calibration import CALIBRATION, StoredCalibration
from impress_format.bank_files.folder import MASKS
from impress_format.bank_files.projection import PROJECTION
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER
from impress_format.disk.files import remove_abandoned
from impress_format.disk.locks import exclusive
from impress_format.errors import TrainingDiverged, UsageError
from impress_format.masks.mask_values import values_bytes
from impress_format.records.fields import MaskType
from impress_format.records.network import BackboneSpec
from impress_format.records.training import Elsewhere
from impress_learn.features.adaptation import adapt, adapted
from impress_learn.features.features import classifier_name, features_of, require_classifier
from impress_learn.features.projection import make_projection
from impress_learn.masks.edge_popup import random_supermask, train_supermask
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import rebuild_backbone
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.progress import SILENT, Progress
from impress_learn.recognition.signature_maker import SignatureMaker, load_signature_maker
from impress_learn.recognition.task_classifier import learning_images, signature_images, train_task_classifier
from impress_learn.running.accuracy import accuracy
from impress_learn.running.device import in_threads
from impress_learn.running.loaded import load_calibration
from impress_learn.running.memory import explain_memory
from impress_learn.streams.classes import classes_of_data, match_classes, stored_classes
from impress_learn.streams.images import Images, evenly_spread
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import Reference, parse_reference
from impress_learn.training.config import TaskTraining, mask_training, steps_per_epoch

CLASSIFIED_TASKS = 64
"""Tasks that a task classifier is trained to tell apart."""
ADAPTED_IMAGES = 50_000
"""That a network is moved towards, of all tasks together."""
PROJECTED_IMAGES = 5_000
"""Whose features a projection is made of, of all tasks together."""
CALIBRATION_IMAGES = 256
"""Images kept for BatchNorm statistics: as many as gave the accuracy of batch statistics (method.md)."""


@contextmanager
def sole_trainer(path: Path) -> Iterator[None]:
    """Hold the folder of a bank for training, so that two runs do not train the same masks.

    Raises:
        StorageError: another process is at it.
    """
    with exclusive(path, wait=False):
        for folder in (path, path / MASKS):
            remove_abandoned(folder)
        yield


def train_missing_masks(
    bank: Bank,
    *,
    data_dir: Path | None,
    device: torch.device,
    progress: Progress = SILENT,
    among: Sequence[int] | None = None,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Train and store every planned mask that has no file yet.

    Equal plans give equal bytes on one machine: each mask depends on its own plan alone, not on the others. So several
    processes may each train some of them.

    Args:
        progress: is told which mask comes next, and which classes of a task differ from those that the bank names.
        among: indices of masks, of which those missing are trained; None for all.
        elsewhere: what this worker has otherwise than the command, which their files then record.

    Raises:
        TrainingDiverged, DataError, StorageError: masks finished before stay stored.
    """
    missing = [index for index in bank.missing_masks() if among is None or index in among]
    if not missing:
        return
    backbone = rebuild_backbone(bank.backbone, bank.manifest.made_with).to(device)
    # Now: after hours of training is too late to find one missing.
    calibration, signature_maker = load_calibration(bank, device), load_signature_maker(bank, backbone, device)
    tasks = {bank.manifest.masks[index].task for index in missing}
    references = {task: parse_reference(task) for task in tasks if task is not None}  # a folder is listed once
    for index in missing:
        plan = bank.manifest.masks[index]
        progress.describe(f"mask {index + 1} of {len(bank.manifest.masks)}: {plan.label}")
        batch, threads = (plan.fit.batch_size, plan.fit.threads) if plan.fit else (1, 1)
        with in_threads(threads), explain_memory(
            f"training mask {index} with batches of {batch:,} images", device,
            lambda _, batch=batch: f"try `batch_size` {max(1, batch // 4)}",  # type: ignore[misc]
        ):  # fmt: skip
            _train_one(
                bank, index, references, backbone, calibration, signature_maker, data_dir, device, progress, elsewhere
            )


def ensure_calibration_images(
    bank: Bank, references: Sequence[Reference], *, data_dir: Path | None, holdout: float
) -> None:
    """Store training images of `references`, spread as evenly as it goes, if the bank's network has BatchNorm."""
    if not bank.manifest.calibration or bank.files.path(CALIBRATION).exists():
        return
    parts: list[Images] = []
    chosen, counts = (torch.arange(CALIBRATION_IMAGES) * len(references) // CALIBRATION_IMAGES).unique_consecutive(
        return_counts=True
    )
    for number, count in zip(chosen.tolist(), counts.tolist(), strict=True):
        data = load_task(references[number], data_dir=data_dir, view=bank.manifest.preprocess, holdout=holdout)
        few = evenly_spread(len(data.source_train), count, fill=True)
        # Chosen before they are transformed: a task of 60,000 images gives a handful.
        parts.append(replace(data, source_train=data.source_train.subset(few)).train)
    pixels = torch.cat([part.pixels_of(slice(None)) for part in parts])
    stored = StoredCalibration(pixels=pixels.numpy(), mean=parts[0].mean, std=parts[0].std)
    bank.files.write(CALIBRATION, stored)


def ensure_task_classifier(
    bank: Bank, references: Sequence[Reference], *, data_dir: Path | None, holdout: float, device: torch.device
) -> None:
    """Train and store what signatures of tasks are made with, from training images of `references`, if there is none.

    Up to 64 of them, evenly spread: more would take longer, and leave fewer images of each.
    """
    if not bank.manifest.recogniser or bank.files.path(TASK_CLASSIFIER).exists():
        return
    distinct = list(dict.fromkeys(references))
    places = evenly_spread(len(distinct), CLASSIFIED_TASKS, nearest=True).tolist()
    learning: list[Images] = []
    signature_batches: list[Images] = []
    for place in places:
        data = load_task(
            distinct[place], data_dir=data_dir, view=bank.manifest.preprocess, holdout=holdout, device=device
        )
        for parts, chosen in (
            (learning, learning_images(len(data.source_train), len(places))),
            (signature_batches, signature_images(len(data.source_train))),
        ):
            parts.append(replace(data, source_train=data.source_train.subset(chosen)).train)
    seed = bank.backbone.seed
    bank.files.write(
        TASK_CLASSIFIER, train_task_classifier(learning, signature_batches, bank.backbone.input_shape, seed)
    )


def ensure_projection(
    bank: Bank,
    references: Sequence[Reference],
    *,
    epochs: int,
    threads: int = 1,
    data_dir: Path | None,
    holdout: float,
    device: torch.device,
    progress: Progress,
) -> None:
    """Store what heads stand on, of features of training images of `references`, if the bank's weights are pretrained
    and there is none; of a network without a linear classifier, nothing.

    Args:
        epochs: passes over these images in which the network is moved towards them first
            (features/adaptation.py), 0 for none.
        threads: of a CPU, in which whoever calls this has it made.

    Raises:
        UsageError: there is one, made otherwise; or epochs are asked for, and no head can stand on this network.
        TrainingDiverged: nothing is stored.
    """
    if bank.backbone.pretrained is None:
        return
    distinct = list(dict.fromkeys(references))
    tasks = tuple(map(str, distinct))
    if bank.has_projection:
        record = bank.projection_record
        asked = (tasks, holdout, epochs, threads)
        present = (record.tasks, record.holdout, record.epochs, record.threads or 1)
        if asked != present:
            raise UsageError(
                f"{bank.path} exists with other settings: heads of its tasks stand on `adapt` {record.epochs}, holdout "
                f"{record.holdout:g}, and {len(record.tasks)} tasks from {record.tasks[0]} on"
            )
        return
    backbone = rebuild_backbone(bank.backbone, bank.manifest.made_with).to(device)
    if classifier_name(backbone) is None:
        if epochs:
            require_classifier(backbone)
        return

    def images(reference: Reference, most: int) -> Images:
        """Evenly spread over all there are, and chosen before they are made: a task may have any number."""
        data = load_task(reference, data_dir=data_dir, view=bank.manifest.preprocess, holdout=holdout, device=device)
        some = evenly_spread(len(data.source_train), most)
        return replace(data, source_train=data.source_train.subset(some)).train

    weight_delta = None
    if epochs:
        each = -(-ADAPTED_IMAGES // len(distinct))
        learning = [(images(reference, each), reference.data_set.classes) for reference in distinct]
        progress.describe("moving the network towards these tasks")
        progress.begin(epochs * steps_per_epoch(sum(len(one) for one, _ in learning), TaskTraining().batch_size))
        weight_delta = adapt(backbone, learning, epochs, bank.backbone.seed, on_step=progress.step)
    backbone = replace(adapted(backbone, weight_delta), mirrored=bank.manifest.mirrored)
    rows, classes = [], []
    for number, reference in enumerate(distinct):
        train = images(reference, -(-PROJECTED_IMAGES // len(distinct)))
        rows.append(features_of(backbone, train).cpu())
        classes.append(train.labels.cpu() + number * (1 << 20))
    made = make_projection(torch.cat(rows), torch.cat(classes))
    made = replace(made, tasks=tasks, holdout=holdout, adaptation=weight_delta, epochs=epochs, threads=threads)
    bank.files.write(PROJECTION, made)


def mask_bytes(spec: BackboneSpec, mask_type: MaskType) -> int:
    """Bytes of a mask file, at most about: what is tried before training whether it can be written."""
    return spec.weights // 8 + values_bytes(mask_type, spec.weights) + 4096


def _train_one(
    bank: Bank,
    index: int,
    references: Mapping[str, Reference],
    backbone: Backbone,
    calibration: Tensor | None,
    signature_maker: SignatureMaker | None,
    data_dir: Path | None,
    device: torch.device,
    progress: Progress,
    elsewhere: Elsewhere | None,
) -> None:
    plan = bank.manifest.masks[index]
    if plan.fit is None or plan.task is None:
        masks = random_supermask(
            bank.backbone,
            density=plan.density,
            allocation=plan.allocation,
            seed=plan.seed,
            signed=plan.type == "signed",
        )
        measured = signature = None
    else:
        reference, classes = references[plan.task], stored_classes(bank, plan.task, None)
        data = load_task(
            reference,
            data_dir=data_dir,
            view=bank.manifest.preprocess,
            holdout=plan.fit.holdout,
            device=device,
            numbers=match_classes(plan.task, classes, classes_of_data(reference, data_dir), progress.remark),
        )
        backbone = backbone.answering(classes.count)
        try:
            masks = train_supermask(
                backbone,
                data.train,
                mask_training(plan.fit),
                density=plan.density,
                allocation=plan.allocation,
                mask_type=plan.type,
                score_seed=plan.seed,
                calibration=calibration,
                on_step=progress.step,
            )
        except TrainingDiverged as error:
            raise TrainingDiverged(f"mask {index} ({plan.task}): {error}") from error
        effective = {name: weight * masks[name].to(device) for name, weight in backbone.weights.items()}
        measured = accuracy(
            replace(backbone, mirrored=bank.manifest.mirrored),
            with_statistics(backbone, effective, calibration),
            data.measured(holdout=plan.fit.holdout),
        )
        signature = (
            None
            if signature_maker is None
            else signature_maker.make_signature(signature_maker.chosen(data.train), None, plan.fit.seed)
        )
    arrays = {name: mask.numpy() for name, mask in masks.items()}
    bank.write_mask(index, arrays, measured, signature, elsewhere=elsewhere)
