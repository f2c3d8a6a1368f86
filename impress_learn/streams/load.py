"""A task reference -> its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from impress_learn.streams.data import Images, TaskData, hold_out
from impress_learn.streams.permuted import permute
from impress_learn.streams.reference import Reference
from impress_learn.streams.rotated import rotate
from impress_learn.streams.sources import load_digits, load_mnist

_SOURCES: dict[str, Callable[[Path | None], tuple[Images, Images]]] = {
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


def check_data(references: Iterable[Reference], *, data_dir: Path | None) -> None:
    """Have the data of these tasks read, so that a run finds what is missing before it begins.

    Raises:
        DataError: a data set is missing, damaged, or cannot be downloaded.
    """
    for name in dict.fromkeys(reference.stream.name for reference in references):
        _SOURCES[name](data_dir)


def load_task(reference: Reference, *, data_dir: Path | None, holdout: float = 0.0) -> TaskData:
    """The task's images; `holdout` of the training images set apart as validation.

    Args:
        data_dir: where data sets are; None for the default.

    Raises:
        DataError: the data set is missing, damaged, or cannot be downloaded.
    """
    train, test = _SOURCES[reference.stream.name](data_dir)
    kept, held = hold_out(train, holdout)
    return TaskData(
        reference=str(reference),
        classes=reference.stream.classes,
        source_train=kept,
        source_validation=held,
        source_test=test,
        transform=partial(_apply, _TRANSFORMS[reference.stream.name], reference.key),
    )


def _apply(transform: Callable[[Images, int], Images], key: int, images: Images) -> Images:
    return transform(images, key) if len(images) else images
