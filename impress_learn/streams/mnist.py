"""MNIST: found where torchvision and others put it, checked by its digests, read through a memory map."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.errors import DataError
from impress_learn.streams.data_dir import default_data_dir
from impress_learn.streams.stream import DataSet

if TYPE_CHECKING:
    from impress_learn.streams.images import MappedImages

_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""The four published files and their SHA-256."""


@lru_cache(maxsize=1)
def load_mnist(data_dir: Path | None) -> tuple[MappedImages, MappedImages]:
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
    return _read_mnist(raw, "train", MNIST.train_images), _read_mnist(raw, "t10k", MNIST.test_images)


def find_mnist(folder: Path) -> Path | None:
    """The folder that holds all four files of MNIST, whatever is in them; None if there is none."""
    for raw in (folder / "MNIST" / "raw", folder / "raw", folder):
        if all(_mnist_file(raw, name) is not None for name in _FILES):
            return raw
    return None


def mnist_problem(raw: Path) -> str | None:
    """What is wrong with the files of MNIST in `raw`, or None."""
    import hashlib

    for name, expected in _FILES.items():
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


def _mnist_file(raw: Path, name: str) -> Path | None:
    """One of the four files, named as torchvision names it or as LeCun's page did."""
    names = (name, name.replace("-idx", ".idx"))
    return next((raw / one for one in names if (raw / one).is_file()), None)


def _download_mnist(folder: Path) -> Path:
    from torchvision import datasets

    raw = folder / "MNIST" / "raw"
    try:
        datasets.MNIST(str(folder), download=True)
    except Exception as error:  # torchvision raises whatever its parser or the network stumbles over
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"MNIST is not in {folder} and could not be downloaded ({reason}).\n"
            f"Put its four files ({', '.join(_FILES)}) into {raw}, name another folder with `data_dir` or "
            "$IMPRESS_DATA, or use rotated-digits, which needs no download."
        ) from error
    return raw


def _read_mnist(raw: Path, part: str, count: int) -> MappedImages:
    """One part of the published files: a header of four, or two, 32-bit numbers, then a byte a pixel or label."""
    import numpy as np
    import torch

    from impress_learn.streams.images import MappedImages

    images, labels = (_mnist_file(raw, f"{part}-{kind}") or raw for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    return MappedImages(
        np.memmap(images, dtype=np.uint8, mode="r", offset=16, shape=(count, 1, 28, 28)),
        torch.arange(count),
        torch.from_numpy(np.memmap(labels, dtype=np.uint8, mode="r", offset=8, shape=count).astype(np.int64)),
        MNIST.mean,
        MNIST.std,
    )


MNIST = DataSet(
    name="mnist",
    load=lambda data_dir, *_: load_mnist(data_dir),
    input_shape=(1, 28, 28),
    classes=10,
    class_names=tuple("0123456789"),
    train_images=60_000,
    test_images=10_000,
    mean=(0.1307,),
    std=(0.3081,),
)
