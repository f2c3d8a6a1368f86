"""A bank in memory as people have it: `impress_learn.load_bank`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from torch import Tensor, nn

from impress_format.bank import Bank, open_bank
from impress_learn.running.device import Device, choose_device
from impress_learn.running.loaded import RunningBank, load_running

if TYPE_CHECKING:
    from impress_learn.face.dataset import OwnDataset
    from impress_learn.face.own_images import OwnImage
    from impress_learn.face.prediction import Prediction


class LoadedBank(RunningBank):
    """A bank in memory, ready to run, as `load_bank` gives it.

    Attributes:
        bank: what is on disk: tasks are read from there whenever they are asked for.
        backbone: the frozen network.
        basis: the masks.
        calibration: normalised images (n, C, H, W) that norm statistics come from; None for a network that needs none.
        mirror: whether each image's mirror image is asked for too; None for as the bank says.

    Examples:
        >>> import impress_learn
        >>> loaded = impress_learn.load_bank("build/demo.impress")
        >>> loaded.predict("seven.png", "rotated-digits-15").label
        '7'
    """

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

        Examples:
            >>> loaded.predict("seven.png", "rotated-digits-15").label
            '7'
            >>> [one.nearest for one in loaded.predict(["seven.png", "two.png"])]
            ['rotated-digits/...', 'rotated-digits/...']
        """
        from impress_learn.face.predict import are_many, predict

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

        Examples:
            >>> batch = loaded.transform("seven.png")[None]
            >>> loaded.module("rotated-digits-15")(batch).argmax(1)
            tensor([7])
        """
        from impress_learn.face.own_images import OwnReader

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

        Examples:
            >>> net = loaded.module("rotated-digits-15")
            >>> net(loaded.transform("seven.png")[None]).shape
            torch.Size([1, 10])
            >>> net.classes[3]
            '3'
        """
        from impress_learn.face.module import task_module

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

        Examples:
            >>> from torchvision.datasets import ImageFolder
            >>> loaded.accuracy("pets", ImageFolder("pets/test"))
            0...
        """
        from impress_learn.face.dataset import dataset_accuracy

        return dataset_accuracy(self, task, dataset, classes)


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

    Examples:
        >>> import impress_learn
        >>> loaded = impress_learn.load_bank("build/demo.impress")
    """
    opened = bank if isinstance(bank, Bank) else open_bank(bank)
    running = load_running(opened, choose_device(device))
    return LoadedBank(running.bank, running.backbone, running.basis, running.calibration)
