"""Image files in folders, a class a folder: found, sorted, and split into training and test images. Nothing is decoded.

PATH/train/<class>/*.png, PATH/test/<class>/*.png     or only    PATH/<class>/*.png
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from impress_format.errors import DataError
from impress_learn.streams.belonging import (
    copies_among,
    numbered_sets,
    remark_on_copies,
    remark_on_groups,
    split_apart,
)
from impress_learn.streams.folder_layout import TEST, Split, find_split, folders_in, images_beside, some
from impress_learn.streams.found_files import ByClass, Search, all_files, count_files


@dataclass(frozen=True)
class ImageFile:
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
        train_sets: for each training image the number of the set of images that it belongs with; None where each is by
            itself.
        remarks: where the test images are from, and what was left out, and why, for people.
    """

    class_names: tuple[str, ...]
    train: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...]
    remarks: tuple[str, ...]
    train_sets: tuple[int, ...] | None = None


def list_images(
    path: Path, classes: Sequence[str] | None = None, *, flat: bool = False, groups: str | None = None
) -> Listing:
    """The images of a task, by class.

    Where there is no test folder a fifth of each class, chosen by the digests of the names, is for testing; copies of
    an image, byte for byte, and images of one group stay on one side.

    Args:
        classes: those wanted of a published data set, in order; None for all there are, sorted.
        flat: every folder is a class, whatever it is called.
        groups: a pattern that tells which images belong together (folder_key.py); None for none.

    Raises:
        DataError: fewer than two classes have images, a class has a name that cannot be stored, the folders of training
            and test do not fit, or no image is like the pattern.
    """
    published = classes is not None
    split = Split(None, None, ()) if flat else find_split(path, published=published)
    source = split.train or path
    search = Search(path)
    wanted = list(classes) if classes is not None else [one.name for one in folders_in(source)]
    found: ByClass = {name: files for name in wanted if (files := search.image_files(source / name))}
    empty = [name for name in wanted if name not in found]
    if empty and published:
        raise DataError(f"{source} has no image of {some(empty)}")
    _check_names(source, found)
    if len(found) < 2:
        raise DataError(
            f"{path} has images of {len(found)} class{'es' if not found else f' ({next(iter(found))})'}: a task takes "
            f"two or more, each a folder of images in {source}"
        )
    train, test, remarks = found, found, list[str]()
    if split.test is not None:
        test = _test_images(search, split.test, list(found), all_known=published)
        copies = {} if published else copies_among([*all_files(train), *all_files(test)])
        remarks.append(f"tested on the {count_files(test):,} images in {split.test.name}")
        if missing := [name for name in found if not test[name]]:
            remarks.append(f"no test image of {some(missing)}")
    else:
        copies = copies_among(all_files(found))
        train, test, remarks = split_apart(found, groups, copies)
    if not any(test.values()):
        raise DataError(
            f"{path} has no test image: put some into {path / TEST[0][0]}, or more than one into each class"
        )
    if not published:
        remarks += remark_on_copies(train, test, copies)
    if groups is not None:
        remarks += remark_on_groups(path, groups, train, test)
    if empty:
        remarks.append(f"no image in {some(empty)}: left out")
    if split.beside:
        remarks.append(f"images in {some([one.name for one in split.beside])}: left out")
    if not published:
        search.ignored.extend(name for one in dict.fromkeys((path, source)) for name in images_beside(one))
    if ignored := sorted(search.ignored):
        remarks.append(f"{len(ignored):,} files or linked folders are no images of a class ({some(ignored)}): left out")
    told = tuple(f"{path}: {remark}" for remark in remarks)
    sets = None if published else numbered_sets(train, groups, copies)
    return Listing(tuple(found), _labelled(train), _labelled(test), told, sets)


def list_unlabelled(path: Path) -> Listing:
    """All images in a folder and below, of which nobody knows the class: all to learn from.

    Raises:
        DataError: there is none; it is no folder, or cannot be read.
    """
    folders_in(path)  # says what is wrong with it
    search = Search(path)
    found = search.image_files(path)
    if not found:
        raise DataError(f"{path} has no image, in it or below")
    told = (f"{path}: {len(found):,} images, all without labels",)
    return Listing((), _labelled({"": found}), (), told)


def _check_names(source: Path, classes: Iterable[str]) -> None:
    """Refuse names of classes that no file of a bank can hold, before anything is learned.

    Raises:
        DataError: naming the folder and the class.
    """
    from impress_format.records.fields import is_text

    for name in classes:
        if not is_text(name):
            raise DataError(
                f"{source}: the class {name!r} cannot be stored by its name: expected UTF-8 without control and "
                "invisible characters; rename the folder"
            )


def _test_images(search: Search, folder: Path, names: Sequence[str], *, all_known: bool) -> ByClass:
    """Test images of these classes.

    Raises:
        DataError: there are others, and `names` are not just some.
    """
    present = [one.name for one in folders_in(folder)]
    if not all_known and (unknown := [name for name in present if name not in names]):
        raise DataError(f"{folder} has {some(unknown)}, of which there is no training image: expected the same classes")
    return {name: search.image_files(folder / name) for name in names}


def _labelled(found: ByClass) -> tuple[ImageFile, ...]:
    return tuple(
        ImageFile(file.name, file.path, label, _state(file.status))
        for label, files in enumerate(found.values())
        for file in files
    )


def _state(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
