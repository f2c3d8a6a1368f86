"""A task reference -> its data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from impress_learn.streams.data import Images, TaskData, hold_out
from impress_learn.streams.permuted import permute
from impress_learn.streams.reference import Reference
from impress_learn.streams.rotated import rotate
from impress_learn.streams.sources import load_digits, load_mnist

_SOURCES: dict[str, Callable[[Path], tuple[Images, Images]]] = {
    "rotated-digits": lambda _: load_digits(),
    "permuted-digits": lambda _: load_digits(),
    "rotated-mnist": load_mnist,
    "permuted-mnist": load_mnist,
}
_TRANSFORMS: dict[str, Callable[[Images, int], Images]] = {
    "rotated-digits": rotate,
    "permuted-digits": permute,
    "rotated-mnist": rotate,
    "permuted-mnist": permute,
}


def load_task(reference: Reference, *, data_dir: Path, holdout: float = 0.0) -> TaskData:
    """The task's images, transformed once; `holdout` of the training images set apart as validation.

    Raises:
        DataError: the data set is missing, damaged, or cannot be downloaded.
    """
    transform = _TRANSFORMS[reference.stream.name]
    train, test = (transform(part, reference.key) for part in _SOURCES[reference.stream.name](data_dir))
    kept, held = hold_out(train, holdout)
    return TaskData(reference=str(reference), train=kept, validation=held, test=test, classes=reference.stream.classes)
