"""What a folder of folders of images is: one task or several, and which folder holds the test images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from impress_format.errors import DataError, listed

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
TRAIN = ("train", "training")
TEST = ("test", "testing"), ("val", "valid", "validation")
"""Names of the folders of a split, in capitals or not. Where there are test and validation images, the first count."""
_MOST_NAMED = 3


@dataclass(frozen=True)
class Split:
    """The folders of training and of test images, None where there is none, and those beside them, which are neither.

    `train` is None, too, where the folder itself holds the classes.
    """

    train: Path | None
    test: Path | None
    beside: tuple[Path, ...]


@dataclass(frozen=True)
class Reading:
    """The folders that are tasks, and what to say about it: the folder could be read otherwise."""

    tasks: tuple[Path, ...]
    remark: str | None = None


def find_split(path: Path, *, published: bool = False) -> Split:
    """The parts of a split in a folder: folders of class folders, that are called so.

    Args:
        published: the folder is known to be one: what lies beside its parts is not looked at.

    Raises:
        DataError: two folders could be the same part, there are test images and none to learn from, or folders beside
            the training images that may be test images or classes; it is no folder, or cannot be read.
    """
    inside = folders_in(path)
    parts = [one for one in inside if is_part(one.name) and folders_in(one)]
    if not parts:
        return Split(None, None, ())
    train = _only(path, [one for one in parts if one.name.casefold() in TRAIN], "training")
    tests = ([one for one in parts if one.name.casefold() in names] for names in TEST)
    test = _only(path, next((found for found in tests if found), []), "test")
    other = f"if every folder in it is a class: folder:{path}::classes"
    if train is None and published:
        return Split(None, None, ())
    if train is None:
        raise DataError(
            f"{path} has test images ({some([one.name for one in parts])}) and no folder `{TRAIN[0]}` of training "
            f"images: put their classes into one; {other}"
        )
    if published:
        return Split(train, test, ())
    beside = tuple(one for one in inside if one not in (train, test) and holds_image(one))
    unknown = [one.name for one in beside if not is_part(one.name)]
    if test is None and unknown:
        raise DataError(
            f"{path} has training images ({train.name}) and, beside them, {some(unknown)}: call that `{TEST[0][0]}` if "
            f"it holds test images; without it: folder:{train}; {other}"
        )
    return Split(train, test, beside)


def read_tasks(path: Path, *, grouped: bool = False) -> Reading:
    """The folders in `path` that are tasks, each of which holds class folders; else `path` alone, which is one.

    PATH/<a>/<b>/*.png may be tasks of classes, or classes with folders in them. It is read as tasks where every folder
    in PATH can be one, and else, as then images would be lost, as one task.

    Args:
        grouped: folders in classes are spoken of, as what names groups: they are no classes where they need not be.

    Raises:
        DataError: some of the folders are tasks, and others have images of their own; it is no folder, or cannot be
            read.
    """
    inside = folders_in(path)
    if any(is_part(one.name) and folders_in(one) for one in inside):
        return Reading((path,))
    looks = [look for look in map(_look_into, inside) if look.own or look.inner]
    if not any(look.inner for look in looks):
        return Reading((path,))
    names = some([look.folder.name for look in looks])
    split = [look.folder for look in looks if look.split]
    lost = [look.folder.name for look in looks if not look.split and (look.own or len(look.inner) < 2)]
    if not lost and (split or len(looks) == 1 or not grouped):
        tasks = tuple(look.folder for look in looks)
        if split or len(tasks) == 1:
            return Reading(tasks)
        classes = some([one.name for one in looks[0].inner])
        return Reading(
            tasks,
            f"{path}: read as {len(tasks):,} tasks ({names}), each of the classes in its folder ({classes}). If these "
            f"are the classes of one task: folder:{path}::classes",
        )
    if split and lost:
        raise DataError(
            f"{path} holds tasks ({some([one.name for one in split])}) and folders that are none ({some(lost)}): name "
            f"the tasks one by one, as folder:{split[0]}"
        )
    if all(len(look.inner) < 2 for look in looks):
        return Reading((path,))
    task = next(look.folder for look in looks if len(look.inner) > 1)
    return Reading(
        (path,),
        f"{path}: read as one task of {len(looks):,} classes ({names}), with the images in the folders below them. If "
        f"{task.name} is a task: folder:{task}; if every one is: folder:{path}::tasks",
    )


def folders_with_images(path: Path) -> tuple[Path, ...]:
    """The folders in a folder that have images, in them or below.

    Raises:
        DataError: there is none; it is no folder, or cannot be read.
    """
    found = tuple(one for one in folders_in(path) if holds_image(one))
    if not found:
        raise DataError(f"{path} has no folder of images")
    return found


def train_folders(path: Path) -> list[Path]:
    """The folders in a folder that are called as training images are; none where it is not there."""
    return [one for one in folders_in(path) if one.name.casefold() in TRAIN] if path.is_dir() else []


def is_part(name: str) -> bool:
    """Whether a folder of this name may be a part of a split."""
    return any(name.casefold() in names for names in (TRAIN, *TEST))


def is_image(name: str) -> bool:
    """Whether a file is taken for an image by its name; hidden ones are not."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def holds_image(folder: Path) -> bool:
    """Whether a folder has an image file, or folders with some; hidden ones do not count."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(map(is_image, names)):
            return True
    return False


def images_beside(folder: Path) -> list[str]:
    """Names of the image files in a folder itself, sorted."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_image(entry.name) and entry.is_file())
    except OSError:
        return []


def folders_in(path: Path) -> list[Path]:
    """The folders in a folder, sorted, hidden ones left out.

    Raises:
        DataError: it is no folder, or cannot be read.
    """
    try:
        with os.scandir(path) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such folder") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    return listed(names, _MOST_NAMED)


@dataclass(frozen=True)
class _Look:
    """A folder: whether it has images of its own, the folders in it that have some, and whether it is a split."""

    folder: Path
    own: bool
    inner: tuple[Path, ...]
    split: bool


def _look_into(folder: Path) -> _Look:
    inside = folders_in(folder)
    return _Look(
        folder,
        own=bool(images_beside(folder)),
        inner=tuple(one for one in inside if holds_image(one)),
        split=any(one.name.casefold() in TRAIN and folders_in(one) for one in inside),
    )


def _only(path: Path, found: Sequence[Path], what: str) -> Path | None:
    if len(found) > 1:
        raise DataError(
            f"{path} has {some([one.name for one in found])}, which could each be the {what} images: expected one of "
            "them; move the images together, or rename the others"
        )
    return found[0] if found else None
