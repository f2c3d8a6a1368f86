"""Images that belong together, copies of one another or of one group: held on one side, and what to tell of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from impress_format.errors import DataError
from impress_learn.streams.copies import find_copies
from impress_learn.streams.folder_key import group_name
from impress_learn.streams.folder_layout import some
from impress_learn.streams.found_files import ByClass, FoundFile, all_files, count_files
from impress_learn.streams.set_apart import Member, set_apart, together

Copies = Mapping[str, int]
"""To each file that is there more than once, by its name, the number of those that it is one of."""


def copies_among(files: Sequence[FoundFile]) -> Copies:
    """Files that are there more than once, byte for byte: to each by its name the number of those that it is one of."""
    found = find_copies([(file.path, file.status) for file in files])
    return {files[place].name: number for number, places in enumerate(found) for place in places}


def _same(files: Sequence[FoundFile], copies: Copies) -> list[list[int]]:
    """Places of these files that are copies of one another, two or more in a group, in order."""
    groups: dict[int, list[int]] = {}
    for place, file in enumerate(files):
        if file.name in copies:
            groups.setdefault(copies[file.name], []).append(place)
    return [places for places in groups.values() if len(places) > 1]


def split_apart(found: ByClass, groups: str | None, copies: Copies) -> tuple[ByClass, ByClass, list[str]]:
    """Training images, those set apart for testing, and what to say of it.

    Args:
        found: all images.
        groups: the pattern that tells which belong together (folder_key.py); None for none.
        copies: of `copies_among`.
    """
    members, files = _members(found, groups), all_files(found)
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


def numbered_sets(found: ByClass, groups: str | None, copies: Copies) -> tuple[int, ...] | None:
    """For each image the number of the set that it belongs with; None where each is by itself."""
    files = all_files(found)
    sets = together(_members(found, groups), _same(files, copies))
    if len(sets) == len(files):
        return None
    numbers = {place: number for number, places in enumerate(sets) for place in places}
    return tuple(numbers[place] for place in range(len(files)))


def _members(found: ByClass, groups: str | None) -> list[Member]:
    """The images, and what groups they are of."""
    return [
        Member(file.name, label, None if groups is None else group_name(groups, file.below))
        for label, files in enumerate(found.values())
        for file in files
    ]


def remark_on_copies(train: ByClass, test: ByClass, copies: Copies) -> list[str]:
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
            f"{tested:,} of {count_files(test):,} test images were learned from, too, byte for byte ({some(learned)}): "
            "accuracy on them is too good"
        )
    if shared:
        remarks.append(
            f"{_number(len(shared), 'image')} in two classes or more, byte for byte ({some(shared)}): no "
            "answer to them can be right"
        )
    return remarks


def remark_on_groups(path: Path, groups: str, train: ByClass, test: ByClass) -> list[str]:
    """How many groups there are, and what is wrong with them.

    Raises:
        DataError: no image is like the pattern.
    """
    parts = [_members(train, groups), _members(test, groups)]
    learned, tested = ({member.group for member in part if member.group is not None} for part in parts)
    files = [*all_files(train), *all_files(test)]
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
