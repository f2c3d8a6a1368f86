"""What stands after `folder:`: a path, and how the images below it are read: PATH[::classes][::groups=PATTERN], or
PATH::unlabelled.

All of it is the task's reference, which its file keeps: so whoever reads the task later reads the same images, in the
same classes, and sets the same ones apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from impress_format.errors import InvalidReference

_MARK = "::"
_CLASSES, _TASKS, _UNLABELLED, _GROUPS = "classes", "tasks", "unlabelled", "groups="
PLACE = "{}"
"""Where a pattern has what names a group."""


@dataclass(frozen=True)
class FolderKey:
    """A folder of images.

    Attributes:
        classes: every folder in it is a class, whatever they are called; else `train` and `test` are the parts of a
            split.
        groups: a pattern that tells which images belong together (`group_name`); None for none.
        tasks: every folder in it is a task. Said by people only: what is stored is a key for each of them.
        unlabelled: nobody knows of which class an image is, whatever folders are called.
    """

    path: Path
    classes: bool = False
    groups: str | None = None
    tasks: bool = False
    unlabelled: bool = False

    def __str__(self) -> str:
        path = self.path.as_posix()
        if _option(path.rpartition(_MARK)[2]) and _MARK in path:
            path += "/"  # the folder is called so
        options = [_CLASSES] * self.classes + [_TASKS] * self.tasks + [_UNLABELLED] * self.unlabelled
        if self.groups is not None:
            options.append(_GROUPS + self.groups)
        return _MARK.join([path, *options])


def parse_folder_key(text: str) -> FolderKey:
    """What such a text says; nothing is looked for on the disk.

    Raises:
        InvalidReference: no path, an option twice, options that exclude each other, or a pattern without a place.
    """
    rest, options = text, list[str]()
    while _MARK in rest and _option(last := rest.rpartition(_MARK)[2]):
        rest = rest.rpartition(_MARK)[0]
        options.append(last)
    if not rest:
        raise InvalidReference(f"{f'folder:{text}'!r}: expected a path, folder:PATH")
    groups = [option.removeprefix(_GROUPS) for option in options if option.startswith(_GROUPS)]
    plain = [option for option in options if not option.startswith(_GROUPS)]
    if len(groups) > 1 or len(plain) > 1 or (groups and _UNLABELLED in plain):
        raise InvalidReference(
            f"folder:{text}: expected one of {_MARK}{_CLASSES} and {_MARK}{_TASKS}, and one {_MARK}{_GROUPS}PATTERN; "
            f"or {_MARK}{_UNLABELLED} alone"
        )
    return FolderKey(
        Path(rest),
        classes=_CLASSES in plain,
        tasks=_TASKS in plain,
        unlabelled=_UNLABELLED in plain,
        groups=check_groups(*groups) if groups else None,
    )


def check_groups(pattern: str) -> str:
    """The pattern.

    Raises:
        InvalidReference: it has no place for what names a group.
    """
    if PLACE not in pattern or _MARK in pattern:
        raise InvalidReference(
            f"`groups` {pattern}: expected a pattern with {PLACE} for what names the group, as '{PLACE}/*' (the folder "
            f"below the class) or '{PLACE}_*' (a name up to its first underscore)"
        )
    return pattern


def group_name(pattern: str, name: str) -> str | None:
    """What of an image's name, which begins below its class, names its group; None where it is not like the pattern.

    `{}` stands for one character or more, `*` for any number, both for as few as possible; all else for itself. Time
    is in proportion to the lengths, whoever wrote the pattern.
    """
    at, found, place = 0, list[str](), False  # `place`: where the wildcard before this text is a place
    pieces = re.split(r"(\{\}|\*)", pattern)
    texts, wildcards = pieces[::2], pieces[1::2]
    if not name.startswith(texts[0]):
        return None
    at = len(texts[0])
    for number, (wildcard, text) in enumerate(zip(wildcards, texts[1:], strict=True), start=1):
        place = wildcard == PLACE
        if number == len(wildcards):  # the last one reaches to the end, or to the text that stands there
            end = len(name) - len(text)
            if end < at + place or not name.endswith(text):
                return None
        elif (end := name.find(text, at + place)) < 0:
            return None
        if place:
            found.append(name[at:end])
        at = end + len(text)
    return "\0".join(found)


def _option(text: str) -> bool:
    return text in (_CLASSES, _TASKS, _UNLABELLED) or text.startswith(_GROUPS)
