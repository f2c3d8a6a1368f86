"""Image files in folders, a class a folder: found, sorted, and split into training and test images. Nothing is decoded.

PATH/train/<class>/*.png, PATH/test/<class>/*.png     or only    PATH/<class>/*.png
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from impress_format.errors import DataError
from impress_learn.streams.copies import find_copies
from impress_learn.streams.folder_key import group_name
from impress_learn.streams.folder_layout import TEST, Split, find_split, folders_in, images_beside, is_image, some
from impress_learn.streams.set_apart import Member, set_apart, together


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
        train_sets: for each training image the number of the set of images that it belongs with; None where each is by
            itself.
        remarks: where the test images are from, and what was left out, and why, for people.
    """

    class_names: tuple[str, ...]
    train: tuple[PictureFile, ...]
    test: tuple[PictureFile, ...]
    remarks: tuple[str, ...]
    train_sets: tuple[int, ...] | None = None


@dataclass(frozen=True)
class _File:
    """An image file: its name below the folder of the task, and below its class."""

    name: str
    below: str
    path: Path
    status: os.stat_result


_ByClass = Mapping[str, Sequence[_File]]
_Copies = Mapping[str, int]


def list_pictures(
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
    search = _Search(path)
    wanted = list(classes) if classes is not None else [one.name for one in folders_in(source)]
    found: _ByClass = {name: files for name in wanted if (files := search.pictures(source / name))}
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
        test = _test_pictures(search, split.test, list(found), all_known=published)
        copies = {} if published else _find_copies([*_files(train), *_files(test)])
        remarks.append(f"tested on the {_count(test):,} images in {split.test.name}")
        if missing := [name for name in found if not test[name]]:
            remarks.append(f"no test image of {some(missing)}")
    else:
        copies = _find_copies(_files(found))
        train, test, remarks = _set_apart(found, groups, copies)
    if not any(test.values()):
        raise DataError(
            f"{path} has no test image: put some into {path / TEST[0][0]}, or more than one into each class"
        )
    if not published:
        remarks += _on_copies(train, test, copies)
    if groups is not None:
        remarks += _on_groups(path, groups, train, test)
    if empty:
        remarks.append(f"no image in {some(empty)}: left out")
    if split.beside:
        remarks.append(f"images in {some([one.name for one in split.beside])}: left out")
    if not published:
        search.ignored.extend(name for one in dict.fromkeys((path, source)) for name in images_beside(one))
    if ignored := sorted(search.ignored):
        remarks.append(f"{len(ignored):,} files or linked folders are no images of a class ({some(ignored)}): left out")
    told = tuple(f"{path}: {remark}" for remark in remarks)
    sets = None if published else _sets(train, groups, copies)
    return Listing(tuple(found), _labelled(train), _labelled(test), told, sets)


@dataclass(frozen=True)
class _Search:
    """Looking for images below `root`, and what was found that is none."""

    root: Path
    ignored: list[str] = field(default_factory=list)

    def pictures(self, folder: Path) -> list[_File]:
        """Image files in a folder and below, sorted by name; hidden ones are none, and links to folders are not
        followed further down."""
        found = []
        for parent, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            links = [name for name in folders if Path(parent, name).is_symlink()]
            self.ignored.extend(Path(parent, name).relative_to(self.root).as_posix() for name in links)
            for name in (name for name in names if not name.startswith(".")):
                path = Path(parent, name)
                relative = path.relative_to(self.root).as_posix()
                try:
                    if is_image(name):
                        found.append(_File(relative, path.relative_to(folder).as_posix(), path, path.stat()))
                        continue
                except OSError:  # a link that leads nowhere
                    pass
                self.ignored.append(relative)
        return sorted(found, key=lambda file: file.name)


def _check_names(source: Path, classes: Iterable[str]) -> None:
    """Refuse names of classes that no file of a bank can hold, before anything is learned.

    Raises:
        DataError: naming the folder and the class.
    """
    from impress_format.records import is_text

    for name in classes:
        if not is_text(name):
            raise DataError(
                f"{source}: the class {name!r} cannot be stored by its name: expected UTF-8 without control and "
                "invisible characters; rename the folder"
            )


def _test_pictures(search: _Search, folder: Path, names: Sequence[str], *, all_known: bool) -> _ByClass:
    """Test images of these classes.

    Raises:
        DataError: there are others, and `names` are not just some.
    """
    there = [one.name for one in folders_in(folder)]
    if not all_known and (unknown := [name for name in there if name not in names]):
        raise DataError(f"{folder} has {some(unknown)}, of which there is no training image: expected the same classes")
    return {name: search.pictures(folder / name) for name in names}


def _find_copies(files: Sequence[_File]) -> _Copies:
    """Files that are there more than once, byte for byte: to each by its name the number of those that it is one of."""
    found = find_copies([(file.path, file.status) for file in files])
    return {files[place].name: number for number, places in enumerate(found) for place in places}


def _same(files: Sequence[_File], copies: _Copies) -> list[list[int]]:
    """Places of these files that are copies of one another, two or more in a group, in order."""
    groups: dict[int, list[int]] = {}
    for place, file in enumerate(files):
        if file.name in copies:
            groups.setdefault(copies[file.name], []).append(place)
    return [places for places in groups.values() if len(places) > 1]


def _files(found: _ByClass) -> list[_File]:
    return [file for each in found.values() for file in each]


def _set_apart(found: _ByClass, groups: str | None, copies: _Copies) -> tuple[_ByClass, _ByClass, list[str]]:
    """Training images, those set apart for testing, and what to say of it."""
    members, files = _members(found, groups), _files(found)
    same = _same(files, copies)
    chosen = set_apart(members, together(members, same))
    names = {files[place].name for place in chosen}
    train = {name: [file for file in each if file.name not in names] for name, each in found.items()}
    test = {name: [file for file in each if file.name in names] for name, each in found.items()}
    remarks = [
        f"no folder of test images: {len(names):,} of {len(files):,} images are set apart to test on, about a fifth "
        "of each class"
    ]
    if single := [name for name, each in found.items() if len(each) == 1 and not test[name]]:
        remarks.append(f"one image of {some(single)}: it is learned from, and not tested on")
    if whole := [name for name, each in found.items() if len(each) > 1 and not test[name]]:
        remarks.append(f"all images of {some(whole)} belong together: they are learned from, and not tested on")
    if same:
        more = sum(map(len, same)) - len(same)
        first = " and ".join(files[place].name for place in same[0][:2])
        remarks.append(f"{_number(more, 'image')} there once more, byte for byte ({first}): copies stay on one side")
    return train, test, remarks


def _sets(found: _ByClass, groups: str | None, copies: _Copies) -> tuple[int, ...] | None:
    """For each image the number of the set that it belongs with; None where each is by itself."""
    files = _files(found)
    sets = together(_members(found, groups), _same(files, copies))
    if len(sets) == len(files):
        return None
    numbers = {place: number for number, places in enumerate(sets) for place in places}
    return tuple(numbers[place] for place in range(len(files)))


def _members(found: _ByClass, groups: str | None) -> list[Member]:
    """The images, and what groups they are of."""
    return [
        Member(file.name, label, None if groups is None else group_name(groups, file.below))
        for label, files in enumerate(found.values())
        for file in files
    ]


def _on_copies(train: _ByClass, test: _ByClass, copies: _Copies) -> list[str]:
    """What is wrong with images that are there more than once: test images that were learned from, and classes that
    share an image."""
    files = [
        (file, label, part) for part, by in enumerate((train, test)) for label, each in by.items() for file in each
    ]
    learned, shared, tested = [], [], 0
    for group in _same([file for file, _, _ in files], copies):
        same = [files[place] for place in group]
        if len({part for _, _, part in same}) > 1:
            tested += sum(part for _, _, part in same)
            learned.append(next(file.name for file, _, part in same if part))
        if len({label for _, label, _ in same}) > 1:
            first = same[0]
            other = next(file.name for file, label, _ in same if label != first[1])
            shared.append(f"{first[0].name} and {other}")
    remarks = []
    if learned:
        remarks.append(
            f"{tested:,} of {_count(test):,} test images were learned from, too, byte for byte ({some(learned)}): "
            "accuracy on them is too good"
        )
    if shared:
        remarks.append(
            f"{_number(len(shared), 'image')} in two classes or more, byte for byte ({some(shared)}): no "
            "answer to them can be right"
        )
    return remarks


def _on_groups(path: Path, groups: str, train: _ByClass, test: _ByClass) -> list[str]:
    """How many groups there are, and what is wrong with them.

    Raises:
        DataError: no image is like the pattern.
    """
    parts = [_members(train, groups), _members(test, groups)]
    learned, tested = ({member.group for member in part if member.group is not None} for part in parts)
    files = [*_files(train), *_files(test)]
    alone = sorted((file.name, file.below) for file in files if group_name(groups, file.below) is None)
    if not learned | tested:
        raise DataError(
            f"{path}: no image is like `groups` {groups}, which is compared with what follows the class in names as "
            f"{some([below for _, below in alone])}"
        )
    remarks = [f"{len(learned | tested):,} groups by {groups}, {len(tested):,} of them to test on"]
    if alone:
        names = some([name for name, _ in alone])
        remarks.append(f"{_number(len(alone), 'image')} not like {groups} ({names}): each is a group by itself")
    if both := sorted(learned & tested):
        names = some([name.replace("\0", " ") for name in both])
        remarks.append(f"{_number(len(both), 'group')} in training and in test ({names}): accuracy may be too good")
    return remarks


def _number(count: int, thing: str) -> str:
    """`1 image is`, `2,000 images are`."""
    return f"1 {thing} is" if count == 1 else f"{count:,} {thing}s are"


def _count(found: _ByClass) -> int:
    return sum(map(len, found.values()))


def _labelled(found: _ByClass) -> tuple[PictureFile, ...]:
    return tuple(
        PictureFile(file.name, file.path, label, _state(file.status))
        for label, files in enumerate(found.values())
        for file in files
    )


def _state(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
