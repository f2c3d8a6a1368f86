"""Learn a task from a torch Dataset of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import open_bank
from impress_format.errors import UsageError
from impress_format.tasks.file import check_task_name
from impress_format.tasks.names import task_exists
from impress_learn.jobs.add import add_tasks
from impress_learn.parts.table import Parts
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device
from impress_learn.streams.dataset import DATASET
from impress_learn.streams.reference import Reference
from impress_learn.streams.stream import DataSet
from impress_learn.streams.view import view_of
from impress_learn.training.config import TaskTraining, check_training, require

if TYPE_CHECKING:
    from impress_format.records.manifest import Preprocess
    from impress_learn.face.dataset import OwnDataset
    from impress_learn.streams.images import Images
    from impress_learn.tasks.added import AddedTask

_HELD_OUT = 0.2
"""Share of the items that accuracy is measured on where nobody gives others: as of a folder."""


@dataclass(frozen=True)
class OwnData:
    """A person's own images, and what belongs to them.

    Attributes:
        dataset: a map-style torch Dataset, or a list, of (image, label), to learn from.
        test: another Dataset, of the same classes, that accuracy is measured on and nothing is learned from. None to
            hold out `fit.holdout` of `dataset` for that, or a fifth where that is 0.
        classes: what the classes are called, in the order of their numbers; None for `dataset.classes`, as torchvision
            has it.
        augment: whether images are shifted in training, as those of a folder are.

    Examples:
        >>> OwnData([("rose.jpg", 0), ("tulip.jpg", 1)], classes=["rose", "tulip"]).augment
        True
    """

    dataset: OwnDataset
    _: KW_ONLY
    test: OwnDataset | None = None
    classes: Sequence[str] | None = None
    augment: bool = True


def add_dataset(
    path: Path | str,
    name: str,
    dataset: OwnDataset | OwnData,
    *,
    fit: TaskTraining = TaskTraining(),  # noqa: B008  frozen
    parts: Parts = Parts(),  # noqa: B008  frozen
    warm_start: str | None = None,
    device: Device = None,
    progress: Progress = SILENT,
) -> AddedTask:
    """Learn a task from any map-style torch Dataset of (image, label), and store it in a bank.

    What is learned, and how, is the same as from files (`add_tasks`). The images are not stored, and no command can
    find them again: the task's reference is `dataset:NAME`, and a command that asks for its data says so. Each item is
    read once and kept in memory, as uint8 pixels of the bank's size (or float32, if it is normalised already), so that
    a random transform of the Dataset is drawn once.

    Args:
        path: the bank's folder.
        name: what the task is to be called: letters, digits, `.`, `_` and `-`.
        dataset: images and labels to learn from, or an OwnData of these and what belongs to them: images to test on,
            names of classes. An image is a Pillow image, a path, a uint8 array (H, W) or (H, W, C) or a uint8 tensor
            (C, H, W), of any size, which go through the bank's own transform; or a float tensor (C, H, W) of the bank's
            shape, which is taken as normalised by the bank's mean and deviation. A label is the number of a class,
            from 0.
        fit: how it is learned: epochs, learning rate, few images a class (`shots`), seed and so on.
        parts: that the task is to have, or the `bytes` of a file that is to hold the best task.
        warm_start: the stored task that it begins from, by name or reference; None to begin anew.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU.
        progress: is told how it goes.

    Returns:
        The name, bytes and accuracies of what was stored; `images` says whether `accuracy` is of `test` images or of
        held-out ones.

    Raises:
        TaskExists: the bank has a task of this name. It is never overwritten.
        UsageError: a setting out of range, no map-style Dataset, an empty one, or classes without names.
        BankMismatch: more classes than the bank's network has outputs, or a bank of format version 1.
        DataError: an item cannot be read, a label is out of range, a class has no item.
        StorageError, FormatError, BackboneMismatch, TrainingDiverged, OutOfMemory: as add_tasks.

    Examples:
        >>> from impress_learn import add_dataset
        >>> from torchvision.datasets import ImageFolder
        >>> added = add_dataset("build/demo.impress", "pets", ImageFolder("pets/train"))
        >>> added.task, added.images
        ('dataset:pets', 'held-out')
    """
    data = dataset if isinstance(dataset, OwnData) else OwnData(dataset)
    test = data.test
    bank = open_bank(path)
    view = view_of(bank)
    check_task_name(name)
    check_training(fit)
    if bank.tasks.has(name):
        raise task_exists(bank.path, [name])
    require(
        not fit.unlabelled,
        "`unlabelled`: a Dataset gives a label with every image; images without any are learned from a folder, by "
        "`add_tasks(bank, ['folder:PATH'])`",
    )
    require(
        test is None or fit.holdout == 0,
        f"`test` has the images that accuracy is measured on, `holdout` {fit.holdout:g} others: give one of them",
    )

    from impress_learn.face.dataset import check_dataset, class_names_of, read_both

    count, tested = check_dataset(data.dataset, "dataset"), 0 if test is None else check_dataset(test, "test")
    names = class_names_of(data.dataset, data.classes)
    if names is None:
        raise UsageError(
            "`classes` is not given, and the dataset has no `classes` either: give their names, in the order of labels"
        )
    if test is not None and (named := class_names_of(test, None if data.classes is None else names)) not in (
        None,
        names,
    ):
        raise UsageError(f"`test` has the classes {named}, `dataset` has {names}: expected the same, in this order")

    read: list[tuple[Images, Images]] = []

    def load(_: Path | None, view: Preprocess, progress: Progress) -> tuple[Images, Images]:
        if not read:  # the whole job asks for them more than once
            read.append(read_both(data.dataset, test, view, names, bank.path, progress.remark))
        return read[0]

    images = DataSet(
        name=f"{DATASET.name}:{name}",
        load=load,
        input_shape=None,
        classes=len(names),
        train_images=count,
        test_images=tested,
        mean=view.mean,
        std=view.std,
        class_names=names,
    )
    stream = DATASET if data.augment else replace(DATASET, augment=None, jitter=None)
    (added,) = add_tasks(
        path,
        [Reference(stream, name, given=images)],
        fit=replace(fit, holdout=_HELD_OUT) if test is None and fit.holdout == 0 else fit,
        name=name,
        parts=parts,
        warm_start=warm_start,
        device=device,
        progress=progress,
    )
    return added
