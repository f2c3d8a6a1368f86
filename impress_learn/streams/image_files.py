"""Image files in folders, a class a folder: found, sorted, and split into training and test images. Nothing is decoded.

PATH/train/<class>/*.png, PATH/test/<class>/*.png     or only    PATH/<class>/*.png
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from impress_format.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
"""Names of the folders of a split."""
_TEST_SHARE = 0.2
_MOST_NAMED = 3


@dataclass(frozen=True)
class PictureFile:
    """An image file of a class.

    Attributes:
        name: relative to the folder of the task, with slashes.
        state: device, inode, bytes, and nanoseconds when the content and when anything of it last changed, of the file
            that a link leads to: what tells that it is still the same.
    """

    name: str
    path: Path
    label: int
    state: tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        remarks: what was left out, and why, for people.
    """

    class_names: tuple[str, ...]
    train: tuple[PictureFile, ...]
    test: tuple[PictureFile, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    name: str
    path: Path
    status: os.stat_result


_ByClass = Mapping[str, Sequence[_File]]


def task_folders(path: Path) -> list[Path]:
    """The folders in `path` that are tasks, each of which holds class folders; else `path` alone, which is one.

    Raises:
        DataError: it is no folder, or cannot be read.
    """
    if _split_folder(path, TRAIN) is not None:
        return [path]
    tasks = [one for one in folders_in(path) if any(_holds_image(inner) for inner in folders_in(one))]
    return tasks or [path]


def list_pictures(path: Path, classes: Sequence[str] | None = None) -> Listing:
    """The images of a task, by class.

    Where there is no test folder a fifth of each class, chosen by the digests of the names, is for testing.

    Args:
        classes: those wanted, in order; None for all there are, sorted.

    Raises:
        DataError: fewer than two classes have images, or the folders of training and test do not fit.
    """
    train_folder, test_folder = _split_folder(path, TRAIN), _split_folder(path, TEST)
    source = train_folder or path
    search = _Search(path)
    wanted = list(classes) if classes is not None else [one.name for one in folders_in(source)]
    found: _ByClass = {name: files for name in wanted if (files := search.pictures(source / name))}
    empty = [name for name in wanted if name not in found]
    if empty and classes is not None:
        raise DataError(f"{source} has no image of {_some(empty)}")
    if len(found) < 2:
        raise DataError(
            f"{path} has images of {len(found)} class{'es' if not found else f' ({next(iter(found))})'}: a task takes "
            f"two or more, each a folder of images in {source}"
        )
    remarks = [f"{path}: no image in {_some(empty)}: left out"] if empty else []
    if train_folder is not None and test_folder is not None:
        train = found
        test = _test_pictures(search, test_folder, list(found), all_known=classes is not None)
        if missing := [name for name in found if not test[name]]:
            remarks.append(f"{path}: no test image of {_some(missing)}")
    else:
        train, test = _split(found)
        if single := [name for name in found if not test[name]]:
            remarks.append(f"{path}: one image of {_some(single)}: it is learned from, and not tested on")
    if not any(test.values()):
        raise DataError(f"{path} has no test image: put some into {path / TEST[0]}, or more than one into each class")
    if search.ignored:
        remarks.append(f"{path}: {len(search.ignored):,} files are no images ({_some(search.ignored)}): left out")
    return Listing(tuple(found), _labelled(train), _labelled(test), tuple(remarks))


@dataclass(frozen=True)
class _Search:
    """Looking for images below `root`, and what was found that is none."""

    root: Path
    ignored: list[str] = field(default_factory=list)

    def pictures(self, folder: Path) -> list[_File]:
        """Image files in a folder and below, sorted by name; hidden ones are none."""
        found = []
        for parent, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in (name for name in names if not name.startswith(".")):
                path = Path(parent, name)
                relative = path.relative_to(self.root).as_posix()
                try:
                    if name.lower().endswith(SUFFIXES):
                        found.append(_File(relative, path, path.stat()))
                        continue
                except OSError:  # a link that leads nowhere
                    pass
                self.ignored.append(relative)
        return sorted(found, key=lambda file: file.name)


def _test_pictures(search: _Search, folder: Path, names: Sequence[str], *, all_known: bool) -> _ByClass:
    """Test images of these classes.

    Raises:
        DataError: there are others, and `names` are not just some.
    """
    there = [one.name for one in folders_in(folder)]
    if not all_known and (unknown := [name for name in there if name not in names]):
        raise DataError(
            f"{folder} has {_some(unknown)}, of which there is no training image: expected the same classes"
        )
    return {name: search.pictures(folder / name) for name in names}


def _split(found: _ByClass) -> tuple[_ByClass, _ByClass]:
    """Training and test images. A file more or less moves hardly another from one to the other."""
    train, test = {}, {}
    for name, files in found.items():
        count = max(1, round(_TEST_SHARE * len(files))) if len(files) > 1 else 0
        order = sorted(files, key=lambda file: hashlib.sha256(os.fsencode(file.name)).digest())
        chosen = {file.name for file in order[:count]}
        train[name] = [file for file in files if file.name not in chosen]
        test[name] = [file for file in files if file.name in chosen]
    return train, test


def _labelled(found: _ByClass) -> tuple[PictureFile, ...]:
    return tuple(
        PictureFile(file.name, file.path, label, _state(file.status))
        for label, files in enumerate(found.values())
        for file in files
    )


def _state(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _split_folder(path: Path, names: Sequence[str]) -> Path | None:
    """The folder of this part of a split, if there is one that holds folders."""
    return next((path / name for name in names if (path / name).is_dir() and folders_in(path / name)), None)


def _holds_image(folder: Path) -> bool:
    """Whether a folder has an image file, or folders with some: a class, or a part of a split."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(name.lower().endswith(SUFFIXES) and not name.startswith(".") for name in names):
            return True
    return False


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


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return shown if len(names) <= _MOST_NAMED else f"{shown} and {len(names) - _MOST_NAMED:,} more"
