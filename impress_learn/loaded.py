"""A bank in memory, ready to run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor, nn

from impress_format.bank import Bank, open_bank
from impress_format.codec import BoolArray
from impress_format.head import StoredHead
from impress_format.numbers import FloatArray
from impress_format.records import ResidualBits, TaskRecord
from impress_format.task_parts import StoredTask
from impress_learn.basis import Basis, basis_is_packed, effective_weights, make_basis
from impress_learn.classes import TaskClasses, classes_of_data, match_classes
from impress_learn.device import Device, choose_device
from impress_learn.head.adapt import adapted
from impress_learn.head.features import require_classifier
from impress_learn.head.projection import Projection, load_projection
from impress_learn.identify.recogniser import Recogniser, load_recogniser
from impress_learn.identify.signing import ByFeatures, ByPixels, Signer
from impress_learn.memory import explain_memory
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import rebuild_backbone
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.residual import make_residual
from impress_learn.streams.images import normalise
from impress_learn.streams.load import TaskData, load_task
from impress_learn.streams.reference import Reference

if TYPE_CHECKING:
    from impress_learn.dataset import OwnDataset
    from impress_learn.own_images import OwnImage
    from impress_learn.predict import Prediction


@dataclass(frozen=True)
class LoadedBank:
    """A bank in memory, ready to run, as `load_bank` gives it.

    Attributes:
        bank: what is on disk: tasks are read from there whenever they are asked for.
        backbone: the frozen network.
        basis: the masks.
        calibration: normalised images (n, C, H, W) that norm statistics come from; None for a network that needs none.

    Example:
        >>> import impress_learn
        >>> loaded = impress_learn.load_bank("build/demo.impress")
        >>> loaded.predict("seven.png", "rotated-digits-15").label
        '7'
    """

    bank: Bank
    backbone: Backbone
    basis: Basis
    calibration: Tensor | None

    @cached_property
    def recogniser(self) -> Recogniser | None:
        """What knows tasks by their pixels; None if the bank has none."""
        return load_recogniser(self.bank, self.basis.device)

    @cached_property
    def signer(self) -> Signer | None:
        """What makes signatures of tasks and compares images with them; None if the bank has none."""
        if self.bank.signs_by == "features":
            return ByFeatures(self.adapted, self.projection)
        return None if self.recogniser is None else ByPixels(self.recogniser)

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
        moved = self.projection.moved
        return self.backbone if moved is None else self.backbone.with_weights(adapted(self.backbone, moved))

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

    def logits(self, effective: Mapping[str, Tensor], images: Tensor, classes: int | None = None) -> Tensor:
        """Logits (batch, classes) of normalised images; an image's do not depend on the others beside it.

        Args:
            effective: of `task_weights` or `mask_weights`, norm statistics included.
            images: float32 (batch, C, H, W), as `transform` gives them, on the bank's device.
            classes: how many the task has, whose logits come first; None for all outputs of the network.

        Returns:
            float32 (batch, classes).

        Example:
            >>> weights = loaded.task_weights("rotated-digits-15")
            >>> loaded.logits(weights, loaded.transform("seven.png")[None]).argmax(1)
            tensor([7])
        """
        with torch.no_grad():
            return self.backbone.answering(classes)(effective, images)

    @overload
    def predict(self, images: OwnImage, task: str | None = None) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: Iterable[OwnImage], task: str | None = None) -> list[Prediction]: ...
    def predict(self, images: OwnImage | Iterable[OwnImage], task: str | None = None) -> Prediction | list[Prediction]:
        """What images show, as `impress infer` answers. What may make an answer wrong is warned of (UserWarning).

        Args:
            images: one image, or several in a list or the like: each a path, a Pillow image, a uint8 array (H, W) or
                (H, W, C), a uint8 tensor (C, H, W), or a float tensor (C, H, W) that `transform` gave. A tensor
                (B, C, H, W) and an array (B, H, W, C) are several.
            task: the stored task that they are of, by name or reference; None to find it for each image, among all
                tasks of the bank.

        Returns:
            A Prediction for one image, a list of them in order for many.

        Raises:
            TaskNotFound, AmbiguousTask: there is no such task, or several.
            BankMismatch: the bank does not say what an image is to be like, or has fewer than two tasks to find one
                among.
            DataError: an image that cannot be read; nothing is answered then.
            FormatError: a file of the bank is damaged.

        Example:
            >>> loaded.predict("seven.png", "rotated-digits-15").label
            '7'
            >>> [one.nearest for one in loaded.predict(["seven.png", "two.png"])]
            ['rotated-digits/...', 'rotated-digits/...']
        """
        from impress_learn.predict import are_many, predict

        predictions, remarks = predict(self, images, task)
        for remark in remarks:
            warnings.warn(remark, stacklevel=2)
        return predictions if are_many(images) else predictions[0]

    def transform(self, image: OwnImage) -> Tensor:
        """An image as the bank's network takes it, read as `impress infer` reads files: the transform of a Dataset.

        A path of a large JPEG file is decoded at a fraction of its size, where that is enough; an image that Pillow has
        opened is decoded whole, so that the two may differ by a shade.

        Args:
            image: a path, a Pillow image, a uint8 array (H, W) or (H, W, C), or a uint8 tensor (C, H, W), of any size;
                a float tensor (C, H, W) of the bank's shape is taken as normalised already, and stays as it is.

        Returns:
            float32 (C, H, W), (pixel / 255 - mean) / std of the bank's `preprocess`, on the CPU.

        Raises:
            DataError: none of these, another shape, or an image that cannot be decoded.
            BankMismatch: the bank has format version 1, which does not say what an image is to be like.

        Example:
            >>> batch = loaded.transform("seven.png")[None]
            >>> loaded.module("rotated-digits-15")(batch).argmax(1)
            tensor([7])
        """
        from impress_learn.own_images import OwnReader

        reader = OwnReader(self.bank)
        normalised = reader.read([image])[0]
        for remark in reader.remarks():
            warnings.warn(remark, stacklevel=2)
        return normalised

    def module(self, task: str) -> nn.Module:
        """A stored task as an ordinary network, which needs nothing of this project: what `impress export` writes.

        It answers as the bank does, or there is none: three seeded images are compared. What is done to it, also by
        training, changes neither the bank nor what is loaded.

        Args:
            task: a stored task, by name or reference.

        Returns:
            In eval mode, on the bank's device: a timm model, or a Sequential for the built-in LeNet. It takes
            normalised images (batch, C, H, W), as `transform` gives them, and gives logits (batch, classes). `classes`
            are their names, strings, in the order of the logits.

        Raises:
            TaskNotFound, AmbiguousTask: there is no such task, or several.
            ExportFailed: the network does not answer as the bank does.
            FormatError: a file of the bank is damaged.

        Example:
            >>> net = loaded.module("rotated-digits-15")
            >>> net(loaded.transform("seven.png")[None]).shape
            torch.Size([1, 10])
            >>> net.classes[3]
            '3'
        """
        from impress_learn.module import task_module

        return task_module(self, task)

    def accuracy(self, task: str, dataset: OwnDataset, classes: Sequence[str] | None = None) -> float:
        """Share of a Dataset's images that a stored task puts into their class.

        Args:
            task: a stored task, by name or reference.
            dataset: a map-style torch Dataset, or a list, of (image, label); images and labels as `add_dataset` takes
                them. Each item is read once and kept in memory.
            classes: what the labels 0, 1, ... are called; None for `dataset.classes`, or where it has none for the
                task's own classes in their order. With names, classes are matched by these.

        Returns:
            0 to 1.

        Raises:
            TaskNotFound, AmbiguousTask: there is no such task, or several.
            UsageError: no map-style Dataset, or an empty one.
            DataError: an item cannot be read, or is of a class that the task does not know.
            BankMismatch: as transform.
            FormatError: a file of the bank is damaged.
            OutOfMemory: the images do not fit.

        Example:
            >>> from torchvision.datasets import ImageFolder
            >>> loaded.accuracy("pets", ImageFolder("pets/test"))
            0...
        """
        from impress_learn.dataset import dataset_accuracy

        return dataset_accuracy(self, task, dataset, classes)

    def mask_weights(self, index: int) -> Mapping[str, Tensor]:
        """Effective weights under one mask alone, and the norm statistics under them.

        Args:
            index: the mask's number, from 0.

        Returns:
            Tensors on the bank's device, by the names of the network's parameters and buffers.

        Example:
            >>> loaded.logits(loaded.mask_weights(0), loaded.transform("seven.png")[None]).shape
            torch.Size([1, 10])
        """
        return with_statistics(self.backbone, self.basis.one(index), self.calibration)

    def task_weights(self, name: str) -> Mapping[str, Tensor]:
        """Effective weights of a stored task, and the norm statistics under them.

        Args:
            name: what it is called in the bank.

        Returns:
            Tensors on the bank's device, by the names of the network's parameters and buffers.

        Raises:
            TaskNotFound: there is no such task.
            FormatError: a file of the bank is damaged.

        Example:
            >>> {key: tuple(tensor.shape) for key, tensor in loaded.task_weights("rotated-digits-15").items()}
            {'fc1.weight': (300, 784), 'fc2.weight': (100, 300), 'fc3.weight': (10, 100)}
        """
        return self.weights_of(self.bank.read_stored(name))

    def weights_of(self, stored: StoredTask) -> Mapping[str, Tensor]:
        """As task_weights, of a task that was read already."""
        if stored.head is not None:
            return self.with_head(stored.head, stored.residual, stored.record)
        effective = self.build(
            stored.alpha, stored.record.granularity, stored.residual, stored.record.residual_bits, stored.mask
        )
        return with_statistics(self.backbone, effective, self.calibration)

    def with_head(self, head: StoredHead, values: FloatArray | None, record: TaskRecord) -> dict[str, Tensor]:
        """Weights of the adapted network, its classifier that of a head, with a residual if there are `values`."""
        device, effective = self.basis.device, dict(self.adapted.weights)
        if values is not None:
            bits, last = record.residual_bits, record.residual_layers
            residual = make_residual(self.bank.backbone, len(values), bits, device, last=last)
            effective = residual.add_to(effective, self.adapted.weights, torch.from_numpy(values).to(device))
        weight, bias = (torch.from_numpy(values).to(device) for values in (head.weight, head.bias))
        name = require_classifier(self.backbone)
        effective[f"{name}.weight"], effective[f"{name}.bias"] = self.projection.classifier(weight, bias)
        return effective

    def build(
        self,
        alpha: FloatArray,
        granularity: int,
        values: FloatArray | None,
        residual_bits: ResidualBits,
        mask: BoolArray | None,
    ) -> dict[str, Tensor]:
        """Effective weights of a task with these parts: (sum_k alpha_k M_k + v[h]) * W, in the last layer of a hybrid
        task its own mask in place of the sum.
        """
        device, weights = self.basis.device, self.backbone.weights
        basis = self.basis.first(len(alpha))
        if mask is not None:
            basis = basis.but_last()
        effective = effective_weights(basis, torch.from_numpy(alpha).to(device), granularity)
        if mask is not None:
            last = list(weights)[-1]
            effective[last] = torch.from_numpy(mask).to(device) * weights[last]
        if values is not None:
            residual = make_residual(self.bank.backbone, len(values), residual_bits, device)
            effective = residual.add_to(effective, weights, torch.from_numpy(values).to(device))
        return effective


def load_bank(bank: Bank | Path | str, device: Device = None) -> LoadedBank:
    """Rebuild the backbone and read all masks, into memory.

    Args:
        bank: an opened bank, or its folder.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one; None
            for the CPU.

    Returns:
        The bank, ready to run; tasks that are added later are found too.

    Raises:
        BankNotFound: there is no bank in this folder.
        UsageError: torch has no such device here.
        BackboneMismatch: the rebuilt backbone has another digest.
        BankMismatch: masks are still to be trained.
        FormatError: a file is damaged.
        OutOfMemory: the masks do not fit.

    Example:
        >>> import impress_learn
        >>> loaded = impress_learn.load_bank("build/demo.impress")
    """
    bank, device = bank if isinstance(bank, Bank) else open_bank(bank), choose_device(device)
    backbone = rebuild_backbone(bank.backbone, bank.manifest.made_with).to(device)
    masks = [bank.read_mask(index)[1] for index in range(bank.complete_masks())]
    supermasks = [{name: torch.from_numpy(mask) for name, mask in layers.items()} for layers in masks]
    one = 4.0 * bank.backbone.weights
    types = {plan.type for plan in bank.manifest.masks}
    if basis_is_packed(len(masks), bank.backbone.weights, real="real" in types):
        one /= 32 if types == {"binary"} else 16
    with explain_memory(
        f"loading {len(masks):,} masks of {bank.backbone.weights:,} weights, {len(masks) * one / 1e9:,.1f} GB in all",
        device,
        lambda free: f"about {free // one:,.0f} masks of this backbone fit",
    ):
        return LoadedBank(bank, backbone, make_basis(backbone, supermasks), load_calibration(bank, device))


def load_calibration(bank: Bank, device: torch.device) -> Tensor | None:
    """The bank's calibration images, normalised, or None for networks that need none."""
    if not bank.manifest.calibration:
        return None
    record, pixels = bank.read_calibration()
    return normalise(torch.from_numpy(pixels).to(device), record.mean, record.std)
