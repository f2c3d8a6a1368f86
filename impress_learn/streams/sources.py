"""The untransformed images that streams are made from: MNIST, and the embedded digits."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from impress_format.errors import DataError
from impress_learn.streams.data import Images

_DIGITS_TRAIN = 1297
"""The set is ordered by writer, so that a split by position tests on other people's hands than it trains on."""


@lru_cache(maxsize=1)
def load_digits() -> tuple[Images, Images]:
    """UCI Optical Recognition of Handwritten Digits (CC BY 4.0), as in scikit-learn: 8x8, values 0..16.

    Returns train (1297) and test (500) images, upsampled to 28x28.
    """
    with resources.files("impress_learn.streams").joinpath("digits.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        small = torch.from_numpy(arrays["images"]).float().reshape(-1, 1, 8, 8)
        labels = torch.from_numpy(arrays["labels"]).long()
    large = interpolate(small * (255.0 / 16.0), size=(28, 28), mode="bilinear", align_corners=False)
    images = Images(large.round().clamp(0, 255).to(torch.uint8), labels, mean=(0.3059,), std=(0.3240,))
    everything = torch.arange(len(labels))
    return images.subset(everything[:_DIGITS_TRAIN]), images.subset(everything[_DIGITS_TRAIN:])


@lru_cache(maxsize=1)
def load_mnist(data_dir: Path) -> tuple[Images, Images]:
    """MNIST (LeCun et al.) through torchvision: 60,000 training and 10,000 test images of 28x28.

    Raises:
        DataError: it is not in `data_dir` and could not be downloaded, or its files are damaged.
    """
    return _read_mnist(data_dir, train=True), _read_mnist(data_dir, train=False)


def default_data_dir() -> Path:
    """$IMPRESS_DATA, else a folder in the user's cache."""
    if folder := os.environ.get("IMPRESS_DATA"):
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "impress"


def _read_mnist(data_dir: Path, *, train: bool) -> Images:
    from torchvision.datasets import MNIST

    files = data_dir / "MNIST" / "raw"
    kinds = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    there = all((files / f"{kind}-ubyte").exists() for kind in kinds)
    try:
        dataset = MNIST(str(data_dir), train=train, download=not there)
        images = Images(dataset.data.unsqueeze(1), dataset.targets, mean=(0.1307,), std=(0.3081,))
        if images.pixels.shape != (len(images), 1, 28, 28) or not 0 <= images.labels.min() <= images.labels.max() <= 9:
            raise ValueError(f"images {tuple(dataset.data.shape)}, {len(images)} labels")
    except Exception as error:  # torchvision raises whatever its parser stumbles over
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if there:
            raise DataError(
                f"the MNIST files in {files} are damaged ({reason}): delete them and fetch them again"
            ) from error
        raise DataError(
            f"MNIST is not in {data_dir} and could not be downloaded ({reason}).\n"
            f"Put its four files into {files}, name another folder with --data-dir or $IMPRESS_DATA, or use "
            "rotated-digits, which needs no download."
        ) from error
    return images
