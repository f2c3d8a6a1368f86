"""The embedded data set: handwritten digits of the UCI repository."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from impress_learn.streams.stream import DataSet

if TYPE_CHECKING:
    from impress_learn.streams.images import Images

_TRAIN = 1297
"""The set is ordered by writer, so that a split by position tests on other people's hands than it trains on."""


@lru_cache(maxsize=1)
def load_digits() -> tuple[Images, Images]:
    """UCI Optical Recognition of Handwritten Digits (CC BY 4.0), as in scikit-learn: 8x8, values 0..16.

    Returns train (1297) and test (500) images, upsampled to 28x28.
    """
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    from impress_learn.streams.images import ImagesInMemory

    with resources.files("impress_learn.streams").joinpath("digits.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        small = torch.from_numpy(arrays["images"]).float().reshape(-1, 1, 8, 8)
        labels = torch.from_numpy(arrays["labels"]).long()
    large = interpolate(small * (255.0 / 16.0), size=(28, 28), mode="bilinear", align_corners=False)
    images = ImagesInMemory(large.round().clamp(0, 255).to(torch.uint8), labels, DIGITS.mean, DIGITS.std)
    everything = torch.arange(len(labels))
    return images.subset(everything[:_TRAIN]), images.subset(everything[_TRAIN:])


DIGITS = DataSet(
    name="digits",
    load=lambda *_: load_digits(),
    input_shape=(1, 28, 28),
    classes=10,
    class_names=tuple("0123456789"),
    train_images=_TRAIN,
    test_images=500,
    mean=(0.3059,),
    std=(0.3240,),
)
