"""ImageNet in 100 tasks of ten classes: an image folder `train/<class>`, `val/<class>`, as torchvision has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.errors import DataError
from impress_learn.streams.data_dir import default_data_dir
from impress_learn.streams.files_data import load_files
from impress_learn.streams.folder_layout import folders_in, train_folders
from impress_learn.streams.image_files import Listing, list_images
from impress_learn.streams.stream import DataSet, Key
from impress_learn.streams.survey import survey_files
from impress_learn.streams.view import PHOTO_MEAN, PHOTO_STD

if TYPE_CHECKING:
    from impress_format.records.manifest import Preprocess
    from impress_learn.progress import Progress
    from impress_learn.streams.images import MappedImages

TASKS, CLASSES = 100, 10
_FOLDERS = ("imagenet", "ImageNet", "ILSVRC2012", "")


def imagenet_task(key: Key) -> DataSet:
    """Task `key`: the classes 10 key ... 10 key + 9 of those there are, sorted by the names of their folders."""
    return DataSet(
        name=f"split-imagenet/{key}",
        load=lambda data_dir, view, progress: _load(data_dir, int(key), view, progress),
        input_shape=None,
        classes=CLASSES,
        train_images=12_811,
        test_images=500,
        mean=PHOTO_MEAN,
        std=PHOTO_STD,
        class_names=None,
        find_names=lambda data_dir: _find(data_dir, int(key))[1],
        survey=lambda data_dir, view: survey_files(_list(data_dir, int(key)).train, view),
    )


def _load(data_dir: Path | None, key: int, view: Preprocess, progress: Progress) -> tuple[MappedImages, MappedImages]:
    """Raises DataError: as _list, or as load_files."""
    listing = _list(data_dir, key)
    for remark in listing.remarks:
        progress.remark(remark)
    return load_files(listing.train, listing.test, view, f"split-imagenet/{key}", progress)


def _list(data_dir: Path | None, key: int) -> Listing:
    """Raises DataError: as _find, or an image of a class is missing."""
    return list_images(*_find(data_dir, key))


def _find(data_dir: Path | None, key: int) -> tuple[Path, tuple[str, ...]]:
    """The folder of the data set, and the names of the task's classes.

    Raises:
        DataError: the folder is not there, or has too few classes.
    """
    folder = default_data_dir() if data_dir is None else data_dir
    for name in _FOLDERS:
        train = next(iter(train_folders(folder / name)), None)
        if train is None:
            continue
        classes = [one.name for one in folders_in(train)]
        if len(classes) < (key + 1) * CLASSES:
            raise DataError(
                f"{train} has {len(classes):,} classes: split-imagenet/{key} takes those from {key * CLASSES:,} to "
                f"{(key + 1) * CLASSES - 1:,}"
            )
        return folder / name, tuple(classes[key * CLASSES : (key + 1) * CLASSES])
    raise DataError(
        f"ImageNet is not in {folder}: expected imagenet/train/<class>/*.JPEG and imagenet/val/<class>/*.JPEG there, "
        "as torchvision unpacks it; name another folder with `data_dir` or $IMPRESS_DATA"
    )
