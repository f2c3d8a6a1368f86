"""A bank in memory, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.bank_files.calibration import CALIBRATION
from impress_format.parts.table import Settings, beside
from impress_format.parts.vote import VOTE
from impress_format.tasks.file import StoredTask
from impress_learn.features.adaptation import adapted
from impress_learn.features.features import answers_in_parts
from impress_learn.features.projection import Projection, load_projection
from impress_learn.masks.basis import Basis, keep_masks, make_basis
from impress_learn.network.backbone import Backbone, Effective, Vote
from impress_learn.network.build import rebuild_backbone
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.parts.part import Ground
from impress_learn.parts.table import lay, nothing
from impress_learn.recognition.signature_maker import ByFeatures, ByPixels, SignatureMaker
from impress_learn.recognition.task_classifier import TaskClassifier, load_task_classifier
from impress_learn.running.memory import explain_memory
from impress_learn.streams.classes import TaskClasses, classes_of_data, match_classes
from impress_learn.streams.images import normalise
from impress_learn.streams.load import TaskData, load_task
from impress_learn.streams.reference import Reference


@dataclass(frozen=True)
class RunningBank:
    """A bank in memory, ready to run; `face.loaded.RunningBank` is what people have of it.

    Attributes:
        bank: what is on disk: tasks are read from there whenever they are asked for.
        backbone: the frozen network.
        basis: the masks.
        calibration: normalised images (n, C, H, W) that norm statistics come from; None for a network that needs none.
        mirror: whether each image's mirror image is asked for too; None for as the bank says.
    """

    bank: Bank
    backbone: Backbone
    basis: Basis
    calibration: Tensor | None
    mirror: bool | None = None

    @cached_property
    def task_classifier(self) -> TaskClassifier | None:
        """What knows tasks by their pixels; None if the bank has none."""
        return load_task_classifier(self.bank, self.basis.device)

    @cached_property
    def signature_maker(self) -> SignatureMaker | None:
        """What makes signatures of tasks and compares images with them; None if the bank has none."""
        if self.bank.signature_kind == "features":
            return ByFeatures(self.adapted, self.projection)
        return None if self.task_classifier is None else ByPixels(self.task_classifier)

    @cached_property
    def projection(self) -> Projection:
        """What heads read features by.

        Raises:
            FormatError: the bank has none, or it is damaged.
        """
        return load_projection(self.bank, self.basis.device)

    @cached_property
    def adapted(self) -> Backbone:
        """The network whose features heads read: moved towards the bank's tasks, where it was.

        Raises:
            FormatError: as projection.
        """
        return replace(adapted(self.backbone, self.projection.weight_delta), mirrored=self.mirrored)

    @property
    def mirrored(self) -> bool:
        """Whether each image's mirror image is asked for too."""
        return self.bank.manifest.mirrored if self.mirror is None else self.mirror

    def answering(self, classes: int | None) -> Backbone:
        """The network as a task of this bank is asked by it, not as weights are learned: mirrored where that is wanted.

        Args:
            classes: how many the task has; None for all outputs of the network.
        """
        return replace(self.backbone.answering(classes), mirrored=self.mirrored)

    def task_data(self, reference: Reference, *, data_dir: Path | None, holdout: float = 0.0) -> TaskData:
        """A task's images as this bank wants them, on its device; labels are numbers of the classes that they have.

        Raises:
            DataError: as load_task.
        """
        return load_task(
            reference,
            data_dir=data_dir,
            view=self.bank.manifest.preprocess,
            holdout=holdout,
            device=self.basis.device,
        )

    def stored_data(
        self,
        reference: Reference,
        name: str,
        classes: TaskClasses,
        *,
        data_dir: Path | None,
        holdout: float = 0.0,
        remark: Callable[[str], None],
    ) -> TaskData:
        """As task_data, of a task of this bank: labels are numbers of the classes that it was learned with, by name.

        Args:
            name: what it is called, for people.
            classes: of `stored_classes`.
            remark: told which classes differ; their images are left out.

        Raises:
            DataError: as load_task, or no class is the same.
        """
        numbers = match_classes(name, classes, classes_of_data(reference, data_dir), remark)
        return replace(self.task_data(reference, data_dir=data_dir, holdout=holdout), numbers=numbers)

    def logits(self, effective: Effective, images: Tensor, classes: int | None = None) -> Tensor:
        """Logits (batch, classes) of normalised images; an image's do not depend on the others beside it.

        Args:
            effective: of `task_weights` or `mask_weights`, norm statistics included.
            images: float32 (batch, C, H, W), as `transform` gives them, on the bank's device.
            classes: how many the task has, whose logits come first; None for all outputs of the network.

        Returns:
            float32 (batch, classes).

        Examples:
            >>> weights = loaded.task_weights("rotated-digits-15")
            >>> loaded.logits(weights, loaded.transform("seven.png")[None]).argmax(1)
            tensor([7])
        """
        with torch.no_grad():
            return answers_in_parts(partial(self.answering(classes), effective), images)

    def mask_weights(self, index: int) -> Mapping[str, Tensor]:
        """Effective weights under one mask alone, and the norm statistics under them.

        Args:
            index: the mask's number, from 0.

        Returns:
            Tensors on the bank's device, by the names of the network's parameters and buffers.

        Examples:
            >>> loaded.logits(loaded.mask_weights(0), loaded.transform("seven.png")[None]).shape
            torch.Size([1, 10])
        """
        return with_statistics(self.backbone, self.basis.one(index), self.calibration)

    def task_weights(self, name: str) -> Effective:
        """Effective weights of a stored task, and the norm statistics under them.

        Args:
            name: what it is called in the bank.

        Returns:
            Tensors on the bank's device, by the names of the network's parameters and buffers. Of a task whose masks
            vote a Vote: `members`, such weights of each mask that has a share, and `shares`.

        Raises:
            TaskNotFound: there is no such task.
            FormatError: a file of the bank is damaged.

        Examples:
            >>> {key: tuple(tensor.shape) for key, tensor in loaded.task_weights("rotated-digits-15").items()}
            {'fc1.weight': (300, 784), 'fc2.weight': (100, 300), 'fc3.weight': (10, 100)}
        """
        return self.weights_of(self.bank.read_stored(name))

    def weights_of(self, stored: StoredTask) -> Effective:
        """As task_weights, of a task that was read already."""
        return self.lay(stored.values, stored.record.settings)

    def lay(self, values: Mapping[str, object], settings: Settings) -> Effective:
        """Effective weights of a task: those that its parts give, and the norm statistics under them.

        Args:
            values: what its parts stand for, by name.
            settings: what its record says of them.
        """
        if (shares := values.get(VOTE.name)) is not None:
            return self.vote(np.asarray(shares))
        ground = self.ground(settings, values)
        weights = ground.backbone.weights
        effective = lay(ground, values, dict(weights) if ground.reads_out else nothing(weights))
        return effective if ground.reads_out else with_statistics(self.backbone, effective, self.calibration)

    def vote(self, shares: npt.NDArray[np.floating]) -> Vote:
        """The weights of the masks that have a share.

        Args:
            shares: (K,), 0 for a mask that has none; they add up to 1.
        """
        voting = np.flatnonzero(shares)
        return Vote(tuple(self.mask_weights(int(index)) for index in voting), tuple(shares[voting].tolist()))

    def ground(self, settings: Settings, present: Collection[str]) -> Ground:
        """What the parts of a task are laid over.

        Args:
            present: names of its parts.

        Raises:
            FormatError: as projection.
        """
        around = beside(self.bank.manifest, settings, present)
        return Ground(
            backbone=self.adapted if around.reads_out else self.backbone,
            basis=self.basis,
            masks=self.bank.manifest.masks,
            projection=self.projection if around.reads_out else None,
            settings=settings,
            path=self.bank.path,
            own_last_layer=around.own_last_layer,
        )


def load_running(bank: Bank, device: torch.device) -> RunningBank:
    """Rebuild the backbone and read all masks, into memory.

    Raises:
        BackboneMismatch: the rebuilt backbone has another digest.
        BankMismatch: masks are still to be trained.
        FormatError: a file is damaged.
        OutOfMemory: the masks do not fit.
    """
    backbone = rebuild_backbone(bank.backbone, bank.manifest.made_with).to(device)
    masks = [bank.read_mask(index)[1] for index in range(bank.complete_masks())]
    supermasks = [{name: torch.from_numpy(mask) for name, mask in layers.items()} for layers in masks]
    types = {plan.type for plan in bank.manifest.masks}
    kept = keep_masks(
        len(masks), bank.backbone.weights, real="real" in types, signed=types != {"binary"}, device=device
    )
    one = kept.bytes / max(len(masks), 1)
    with explain_memory(
        f"loading {len(masks):,} masks of {bank.backbone.weights:,} weights, {kept.bytes / 1e9:,.1f} GB in all",
        device,
        lambda free: f"about {free // one:,.0f} masks of this backbone fit",
    ):
        return RunningBank(bank, backbone, make_basis(backbone, supermasks), load_calibration(bank, device))


def load_calibration(bank: Bank, device: torch.device) -> Tensor | None:
    """The bank's calibration images, normalised, or None for networks that need none."""
    if not bank.manifest.calibration:
        return None
    _, calibration = bank.files.read(CALIBRATION)
    return normalise(torch.from_numpy(calibration.pixels).to(device), calibration.mean, calibration.std)
