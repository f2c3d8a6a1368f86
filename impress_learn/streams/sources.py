"""The untransformed images that streams are made from: MNIST, and the embedded digits."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from impress_format.errors import DataError
from impress_learn.streams.data import Images

_MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""The four published files and their SHA-256."""
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
def load_mnist(data_dir: Path | None) -> tuple[Images, Images]:
    """MNIST (LeCun et al.): 60,000 training and 10,000 test images of 28x28, the published files and no others.

    They are looked for in `data_dir` as torchvision lays them out, in its `raw`, and in the folder itself, named with
    a dash or with a dot before `idx`; where none is there, torchvision downloads them.

    Raises:
        DataError: they are not there and could not be downloaded, or are not the published ones.
    """
    folder = default_data_dir() if data_dir is None else data_dir
    raw = find_mnist(folder)
    if raw is None:
        raw = _download_mnist(folder)
    if problem := mnist_problem(raw):
        raise DataError(
            f"{problem}: delete it and fetch MNIST again; images of your own do not go by the name of MNIST"
        )
    return _read_mnist(raw, "train"), _read_mnist(raw, "t10k")


def find_mnist(folder: Path) -> Path | None:
    """The folder that holds all four files of MNIST, whatever is in them; None if there is none."""
    for raw in (folder / "MNIST" / "raw", folder / "raw", folder):
        if all(_mnist_file(raw, name) is not None for name in _MNIST):
            return raw
    return None


def mnist_problem(raw: Path) -> str | None:
    """What is wrong with the files of MNIST in `raw`, or None."""
    for name, expected in _MNIST.items():
        path = _mnist_file(raw, name) or raw / name
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            return f"{path} cannot be read: {error.strerror or error}"
        if found != expected:
            size = path.stat().st_size
            return (
                f"{path} is not the published file ({size:,} bytes, SHA-256 {found[:12]}…, {expected[:12]}… expected)"
            )
    return None


def default_data_dir() -> Path:
    """$IMPRESS_DATA, else a folder in the user's cache.

    Raises:
        DataError: the variable is not set and this user has no home folder.
    """
    if folder := os.environ.get("IMPRESS_DATA"):
        return Path(folder).expanduser()
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "impress"
    try:
        return Path.home() / ".cache" / "impress"
    except RuntimeError as error:  # neither HOME nor an entry in the list of users, as in many containers
        raise DataError(
            "this user has no home folder to look for data sets in: set IMPRESS_DATA or give `data_dir`"
        ) from error


def _mnist_file(raw: Path, name: str) -> Path | None:
    """One of the four files, named as torchvision names it or as LeCun's page did."""
    names = (name, name.replace("-idx", ".idx"))
    return next((raw / one for one in names if (raw / one).is_file()), None)


def _download_mnist(folder: Path) -> Path:
    from torchvision.datasets import MNIST

    raw = folder / "MNIST" / "raw"
    try:
        MNIST(str(folder), download=True)
    except Exception as error:  # torchvision raises whatever its parser or the network stumbles over
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"MNIST is not in {folder} and could not be downloaded ({reason}).\n"
            f"Put its four files ({', '.join(_MNIST)}) into {raw}, name another folder with `data_dir` or "
            "$IMPRESS_DATA, or use rotated-digits, which needs no download."
        ) from error
    return raw


def _read_mnist(raw: Path, part: str) -> Images:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    images, labels = (_mnist_file(raw, f"{part}-{kind}") or raw for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    return Images(
        read_image_file(str(images)).unsqueeze(1), read_label_file(str(labels)), mean=(0.1307,), std=(0.3081,)
    )
