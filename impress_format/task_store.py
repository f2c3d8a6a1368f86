"""The tasks of a bank, loose and packed, as one set (docs/format.md, Packs).

    tasks/NAME.safetensors      a loose task
    tasks/NAME.removed          an empty file: no pack has this task any more
    packs/DIGEST.safetensors    many tasks

A loose task stands before one of its name in a pack, whether or not that was removed. Whoever reads looks for the loose
file first, then for the mark of removal, then into the packs, anew each time: `pack_tasks` puts new packs into place
before it deletes old packs, then marks, then loose files, so that at every moment every task is found, and what was
removed is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from impress_format.errors import FormatError, StorageError
from impress_format.files import (
    file_size,
    is_there,
    list_folder,
    make_folder,
    read_limited,
    remove_abandoned,
    write_atomically,
)
from impress_format.head import count_dimensions
from impress_format.header import parse_header
from impress_format.locks import exclusive
from impress_format.numbers import NumbersError, rows_of
from impress_format.pack_file import COMMON, COMMON_END, COMMON_OF, OWN, OWN_END, Pack, open_pack
from impress_format.records import BankManifest, is_task_name
from impress_format.residual import count_values
from impress_format.task_file import (
    Images,
    TaskOutline,
    check_task_name,
    most_bytes,
    outline_task,
    read_task_record,
)
from impress_format.task_parts import (
    ALPHA,
    HEAD,
    MASK,
    PARTS,
    RESIDUAL,
    check_said,
    count_classes,
    count_columns,
)

TASKS = "tasks"
PACKS = "packs"
SUFFIX = ".safetensors"
REMOVED = ".removed"
_TRIES = 5
"""Of opening what a folder listed: a pack may be replaced by another in between, not five times."""
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class TaskStore:
    """The tasks in a bank's folder. Packs that were opened stay open."""

    folder: Path
    manifest: BankManifest
    _open: dict[str, Pack] = field(default_factory=dict, repr=False, compare=False)

    def loose_path(self, name: str) -> Path:
        return self.folder / TASKS / f"{check_task_name(name)}{SUFFIX}"

    def removed_path(self, name: str) -> Path:
        return self.folder / TASKS / f"{check_task_name(name)}{REMOVED}"

    def changing(self) -> AbstractContextManager[None]:
        """Held while a task is replaced or removed, and while tasks are packed."""
        make_folder(self.folder / TASKS)
        return exclusive(self.folder / TASKS, wait=True)

    def packs(self) -> list[Pack]:
        """The packs there are now.

        Raises:
            FormatError: one is damaged.
            StorageError: the folder may not be read.
        """
        for tries in range(1, _TRIES + 1):
            names = [path.name for path in self.pack_paths()]
            for gone in set(self._open) - set(names):
                del self._open[gone]
            try:
                for name in names:
                    if name not in self._open:
                        self._open[name] = open_pack(self.folder / PACKS / name)
            except FormatError:
                if tries == _TRIES or is_there(self.folder / PACKS / name):
                    raise
            else:
                return [self._open[name] for name in names]
        raise AssertionError("unreachable")

    def pack_paths(self) -> list[Path]:
        """The files that are named as packs are; a bank of version 1 has none.

        Raises:
            StorageError: the folder may not be read.
        """
        names = list_folder(self.folder / PACKS) if self.manifest.format_version > 1 else []
        return [self.folder / PACKS / name for name in sorted(names) if name.endswith(SUFFIX) and name[0] != "."]

    def packed(self, name: str) -> tuple[Pack, int] | None:
        """Where in the packs a task is that was not removed from them."""
        if is_there(self.removed_path(name)):
            return None
        for pack in self.packs():
            if (number := pack.find(name)) is not None:
                return pack, number
        return None

    def has(self, name: str) -> bool:
        """Whether there is a task of this name."""
        return is_there(self.loose_path(name)) or self.packed(name) is not None

    def read(self, name: str) -> tuple[Path, bytes, int] | None:
        """The file a task is in, the bytes of its own file, and how many it takes on disk; None if there is none.

        Raises:
            FormatError: the file cannot be read.
        """
        path = self.loose_path(name)
        try:
            content = read_limited(path, most_bytes(self.manifest))
            return path, content, len(content)
        except FormatError:
            if is_there(path):
                raise
        if (found := self.packed(name)) is None:
            return None
        pack, number = found
        size = len(pack.text(number, OWN, OWN_END)) + pack.row_bytes
        return pack.path, pack.content(number), size

    def names(self) -> list[str]:
        """Names of all tasks, sorted as people count: task-9 before task-10.

        Raises:
            StorageError: a folder may not be read.
            FormatError: a pack is damaged.
        """
        loose, removed = self.loose()
        hidden = {*loose, *removed}
        names = list(loose)
        for pack in self.packs():
            names += [own[0] for own in pack.owns() if own[0] not in hidden]
            if len(self._open) > 1:  # an interrupted `pack_tasks` leaves one task in two packs
                hidden.update(names)
        return sorted(names, key=as_people_count)

    def learned_from(self, reference: str) -> list[str]:
        """Names of the tasks that were learned from this reference, in the order of `names`.

        Raises:
            StorageError, FormatError: as names, and for a damaged loose task.
        """
        loose, removed = self.loose()
        hidden = {*loose, *removed}
        found = {name for pack in self.packs() for name in pack.find_task(reference) if name not in hidden}
        for name in loose:
            if (stored := self.read(name)) is not None:
                path, content, _ = stored
                if read_task_record(path, content, self.manifest).task == reference:
                    found.add(name)
        return sorted(found, key=as_people_count)

    def outlines(self) -> list[TaskOutline]:
        """What a list shows of every task, in the order of `names`.

        Raises:
            StorageError, FormatError: as names, and for a damaged task.
        """
        loose, removed = self.loose()
        hidden = {*loose, *removed}
        found = []
        for pack in self.packs():
            found += [one for one in outline_pack(pack, self.manifest) if one.name not in hidden]
            if len(self._open) > 1:  # an interrupted `pack_tasks` leaves one task in two packs
                hidden.update(one.name for one in found)
        for name in loose:
            if (stored := self.read(name)) is not None:  # else removed meanwhile
                path, content, size = stored
                found.append(outline_task(path, content, self.manifest, size))
        return sorted(found, key=lambda one: as_people_count(one.name))

    def loose(self) -> tuple[list[str], set[str]]:
        """Names of the loose tasks, and those that are marked as removed."""
        files = list_folder(self.folder / TASKS)
        return _stems(files, SUFFIX), set(_stems(files, REMOVED) if self.manifest.format_version > 1 else [])

    def files(self) -> list[Path]:
        """All files that tasks are in, or are marked as removed by."""
        loose, removed = self.loose()
        paths = [*map(self.loose_path, loose), *map(self.removed_path, removed)]
        return [*paths, *(pack.path for pack in self.packs())]

    def bytes_on_disk(self) -> int:
        """Bytes of all files that tasks are in."""
        return sum(map(file_size, self.files()))

    def part_bytes(self) -> dict[str, int]:
        """Bytes that each part takes in all tasks together, loose and packed.

        Raises:
            StorageError, FormatError: as names, and for a damaged loose task.
        """
        total = dict.fromkeys(sorted(PARTS), 0)
        for pack in self.packs():
            for part, column in pack.parts.items():
                total[part] += column.nbytes
        for name in self.loose()[0]:
            if (stored := self.read(name)) is not None:
                path, content, _ = stored
                for part, tensor in parse_header(path, content).tensors.items():
                    total[part] += tensor.size
        return total

    def write(self, name: str, content: bytes, *, replace: bool) -> None:
        """Store a task's file.

        Raises:
            FileExistsError: a task of this name is there, and `replace` is false.
            StorageError: the disk is full, read-only, or out of reach.
        """
        path = self.loose_path(name)
        make_folder(path.parent)
        remove_abandoned(path.parent)
        if replace:
            with self.changing():
                write_atomically(path, content, replace=True)
            return
        if self.packed(name) is not None:
            raise FileExistsError(name)
        write_atomically(path, content, replace=False)

    def remove(self, name: str) -> None:
        """Remove a task, wherever it is.

        Raises:
            StorageError: the disk said no.
        """
        path = self.loose_path(name)
        with self.changing():
            if self.packed(name) is not None:
                write_atomically(self.removed_path(name), b"", replace=True)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"cannot remove {path}: {error.strerror or error}") from error


def outline_pack(pack: Pack, manifest: BankManifest) -> list[TaskOutline]:
    """What a list shows of every task in a pack, fast: texts are decoded, and nothing is compared with its checksum.

    Raises:
        FormatError: texts are damaged, or alpha is of no shape.
    """
    shared = [_shared(pack, index, manifest) for index in range(len(pack.columns[COMMON_END]))]
    of = pack.columns[COMMON_OF]
    if int(of.max()) >= len(shared):
        raise FormatError(pack.path, f"{COMMON_OF} has common text {of.max()}, there is none")
    owns = pack.owns()
    sizes = (np.diff(pack.columns[OWN_END].astype(np.int64), prepend=0) + pack.row_bytes).tolist()
    return [
        TaskOutline(
            task=task,
            name=name,
            coefficients=masks * columns,
            residual=values,
            head=dimensions,
            bytes=size,
            accuracy=accuracy,
            train_accuracy=train_accuracy,
            images=images,
            masks=masks,
            granularity=granularity,
        )
        for (name, task, accuracy, train_accuracy), size, (
            masks,
            columns,
            values,
            dimensions,
            granularity,
            images,
        ) in zip(owns, sizes, map(shared.__getitem__, of.tolist()), strict=True)
    ]


def as_people_count(name: str) -> str:
    """A key that sorts task-9 before task-10."""
    return f"{_DIGITS.sub(_padded, name)} {name}"


def _padded(digits: re.Match[str]) -> str:
    return digits[0].zfill(12)


def _shared(pack: Pack, index: int, manifest: BankManifest) -> tuple[int, int, int, int, int, Images]:
    """Masks, columns, values of the residual, dimensions of the head, granularity of the tasks with this common text,
    and what their accuracy was measured on.
    """
    alpha, residual, head = (pack.parts.get(part) for part in (ALPHA, RESIDUAL, HEAD))
    alike = pack.alike(index)
    check_said(pack.path, pack.parts, alike, manifest.backbone)
    columns = count_columns(manifest, alike.granularity, hybrid=MASK in pack.parts)
    layers, classes = len(manifest.backbone.residual_layers(alike.residual_layers)), count_classes(manifest, alike)
    try:
        masks = 0 if alpha is None else rows_of(alpha.dtype, alpha.shape[1:], columns)
        values = 0 if residual is None else count_values(prod(residual.shape[1:]), alike.residual_bits, layers)
        dimensions = 0 if head is None else count_dimensions(prod(head.shape[1:]), alike.head_bits, classes)
    except NumbersError as error:
        raise FormatError(pack.path, f"{COMMON}[{index}] does not describe its tasks ({error})") from error
    return masks, columns, values, dimensions, alike.granularity, "held-out" if alike.fit.holdout else "test"


def _stems(files: Iterable[str], suffix: str) -> list[str]:
    return [stem for file in files if file.endswith(suffix) and is_task_name(stem := file.removesuffix(suffix))]
