"""What a stream is: one record, without any data loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from impress_learn.progress import Progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from impress_format.records.manifest import Preprocess
    from impress_learn.streams.images import Images
    from impress_learn.streams.survey import Survey

Key = int | str
"""Which task of a stream: a number, or the path of a folder."""
Load = Callable[["Path | None", "Preprocess", Progress], "tuple[Images, Images]"]
"""Folder of data sets, how the images are wanted, who is told -> training and test images; raises DataError. A data set
whose images have one size by nature gives them in that (streams/view.py does the rest)."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A labelled data set, as it is before a task's transform. Tasks of one data set hold out the same images.

    Attributes:
        input_shape: channels, height, width by nature; None where images are of any size.
        classes: how many there are; 0 for images of which nobody knows the class (all have label 0 then).
        train_images, test_images: how many, about where only a look into the images can tell.
        mean, std: of the training images, per channel, in units of pixel / 255.
        class_names: None where only the data can tell: by `find_names`.
        find_names: folder of data sets -> class names; raises DataError.
        remarks: what was found amiss, for people.
        survey: folder of data sets, how the images are wanted -> what the training images are like; raises DataError.
            None where all are of one size and of 8 bits.
    """

    name: str
    load: Load
    input_shape: tuple[int, int, int] | None
    classes: int
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] | None
    find_names: Callable[[Path | None], tuple[str, ...]] | None = None
    remarks: tuple[str, ...] = ()
    survey: Callable[[Path | None, Preprocess], Survey] | None = None

    @property
    def labelled(self) -> bool:
        """Whether it is known of which class an image is."""
        return self.classes > 0

    def names(self, data_dir: Path | None) -> tuple[str, ...] | None:
        """What its classes are called; None where nothing tells.

        Raises:
            DataError: only the data can tell, and they are not there.
        """
        return self.class_names if self.find_names is None else self.find_names(data_dir)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A family of related tasks, one for each key.

    Attributes:
        keys: a key is a number below this; None for a path.
        data_set: key -> the images it is made from.
        shared: the name of the data set that all tasks are made from; None if each has images of its own.
        input_shape, classes: of every task, where all are alike.
        names_by_data: whether the data say what the classes of a task are, so that other data may have others.
        needs: what a user must have, in words.
        hub: the data set's entry on the Hugging Face Hub, if it has one.
        transform: uint8 images (N, C, H, W), key -> images of that task.
        augment: float32 images (N, C, H, W) in training, generator -> changed as the stream allows; None for not.
        jitter: the same, and instead, where a task is learned from few images (`shots`).
    """

    name: str
    summary: str
    keys: int | None
    data_set: Callable[[Key], DataSet]
    shared: str | None = None
    input_shape: tuple[int, int, int] | None
    classes: int | None
    names_by_data: bool = False
    needs: str
    hub: str | None = None
    transform: Callable[[Tensor, Key], Tensor] = lambda pixels, _: pixels
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    jitter: Callable[[Tensor, torch.Generator], Tensor] | None = None
