"""The image files below a folder: looked for, and nothing decoded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from impress_learn.streams.folder_layout import is_image


@dataclass(frozen=True)
class FoundFile:
    """An image file: its name below the folder of the task, and below its class."""

    name: str
    below: str
    path: Path
    status: os.stat_result


ByClass = Mapping[str, Sequence[FoundFile]]
"""The files of each class, by its name."""


@dataclass(frozen=True)
class Search:
    """Looking for images below `root`, and what was found that is none."""

    root: Path
    ignored: list[str] = field(default_factory=list)

    def image_files(self, folder: Path) -> list[FoundFile]:
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
                        found.append(FoundFile(relative, path.relative_to(folder).as_posix(), path, path.stat()))
                        continue
                except OSError:  # a link that leads nowhere
                    pass
                self.ignored.append(relative)
        return sorted(found, key=lambda file: file.name)


def all_files(found: ByClass) -> list[FoundFile]:
    """Those of all classes, one class after the other."""
    return [file for each in found.values() for file in each]


def count_files(found: ByClass) -> int:
    """How many there are of all classes."""
    return sum(map(len, found.values()))
