"""What a stream is: one record, without any data loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from impress_format.records import Preprocess
    from impress_learn.streams.images import Images

Key = int | str
"""Which task of a stream: a number, or the path of a folder."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A labelled data set, as it is before a task's transform. Streams of one source hold out the same images.

    Attributes:
        load: folder of data sets -> training and test images; raises DataError.
        input_shape: channels, height, width.
        mean, std: of the training images, per channel, in units of pixel / 255.
        needs: what a user must have, in words.
        hub: the data set's entry on the Hugging Face Hub, if it has one.
    """

    name: str
    load: Callable[[Path | None], tuple[Images, Images]]
    input_shape: tuple[int, int, int]
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    needs: str
    hub: str | None = None

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes an input like those that were learned from."""
        from impress_format.records import Preprocess

        channels, height, width = self.input_shape
        return Preprocess(
            mode="L" if channels == 1 else "RGB",
            size=(height, width),
            interpolation="bilinear",
            mean=self.mean,
            std=self.std,
        )


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A family of related tasks, one for each key: the images of `source`, changed in a way that the key says.

    Attributes:
        keys: a key is a number below this.
        transform: uint8 images (N, C, H, W), key -> images of that task.
        augment: float32 images (N, C, H, W) in training, generator -> changed as the stream allows; None for not.
        jitter: the same, and instead, where a task is learned from few images (`shots`).
    """

    name: str
    summary: str
    source: DataSet
    keys: int
    transform: Callable[[Tensor, Key], Tensor]
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    jitter: Callable[[Tensor, torch.Generator], Tensor] | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.source.input_shape

    @property
    def classes(self) -> int:
        return self.source.classes
