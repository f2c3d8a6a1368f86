"""The tasks of a bank, loose and packed, as one set (docs/format.md, Packs).

    tasks/NAME.safetensors      a loose task
    tasks/NAME.removed          an empty file: no pack has this task any more
    packs/DIGEST.safetensors    many tasks

A loose task stands before one of its name in a pack, whether or not that was removed. Whoever reads looks for the loose
file first, then for the mark of removal, then into the packs, anew each time: `pack_tasks` puts new packs into place
before it deletes old packs, then marks, then loose files, so that at every moment every task is found, and what was
removed is not.

Who wants more than one task takes a `Snapshot` (snapshot.py) and asks that: nothing in it changes, whatever
other threads and processes do. The store itself keeps one thing, a tuple of the packs that were open last, which is
replaced whole; so threads share it without a lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from impress_format.disk.files import (
    is_there,
    list_folder,
    make_folder,
    read_limited,
    write_atomically,
)
from impress_format.disk.locks import hold
from impress_format.errors import FormatError, StorageError
from impress_format.limits import MAX_TASK_BYTES
from impress_format.records.fields import is_task_name
from impress_format.records.manifest import BankManifest
from impress_format.tasks.file import (
    TaskSummary,
    check_task_name,
    read_task_record,
    summarise_task,
)
from impress_format.tasks.pack import OWN, OWN_END, Pack, open_pack
from impress_format.tasks.snapshot import Snapshot, natural_order

TASKS = "tasks"
PACKS = "packs"
SUFFIX = ".safetensors"
REMOVED = ".removed"
GONE = (FileNotFoundError, NotADirectoryError)


@dataclass
class _Opened:
    """The packs that were open last. The tuple is replaced, never changed: two threads that do so at once each go on
    with their own, and whichever is kept is right or is looked at anew.
    """

    packs: tuple[Pack, ...] = ()


@dataclass(frozen=True)
class TaskStore:
    """The tasks in a bank's folder. Packs that were opened stay open. Many threads may use one store."""

    folder: Path
    manifest: BankManifest
    _opened: _Opened = field(default_factory=_Opened, repr=False, compare=False)

    def loose_path(self, name: str) -> Path:
        return self.folder / TASKS / f"{check_task_name(name)}{SUFFIX}"

    def removed_path(self, name: str) -> Path:
        return self.folder / TASKS / f"{check_task_name(name)}{REMOVED}"

    def changing(self) -> AbstractContextManager[None]:
        """Held while a task is stored, replaced or removed, and while tasks are packed."""
        make_folder(self.folder / TASKS)
        return hold(self.folder / TASKS / ".lock", wait=True, busy="", remove=True)

    def snapshot(self) -> Snapshot:
        """The tasks there are now. Loose ones are looked for first: what is packed meanwhile is found in the packs.

        Raises:
            FormatError: a pack is damaged.
            StorageError: a folder may not be read.
        """
        loose, removed = self.listed()
        return Snapshot(tuple(loose), frozenset(removed), self.packs())

    def listed(self) -> tuple[list[str], list[str]]:
        """Names of the loose tasks, and those that are marked as removed.

        Raises:
            StorageError: the folder may not be read.
        """
        files = list_folder(self.folder / TASKS)
        return _stems(files, SUFFIX), _stems(files, REMOVED) if self.manifest.format_version > 1 else []

    def packs(self) -> tuple[Pack, ...]:
        """The packs there are now: as many as one look at the folder showed and the next one shows again.

        A listing beside `pack_tasks` may have missed the new pack and the old one too. So whatever it gave, or failed
        over, counts only if nothing changed; each time that something did, another process finished packing.

        Raises:
            FormatError: one is damaged.
            StorageError: the folder may not be read.
        """
        paths = self.pack_paths()
        while True:
            present = {pack.path: pack for pack in self._opened.packs}
            failed, packs = None, tuple[Pack, ...]()
            try:
                packs = tuple(present.get(path) or open_pack(path) for path in paths)
            except FormatError as error:
                failed = error
            before, paths = paths, self.pack_paths()
            if paths != before or (failed is not None and isinstance(failed.__cause__, GONE)):
                continue
            if failed is not None:
                raise failed
            self._opened.packs = packs
            return packs

    def pack_paths(self) -> list[Path]:
        """The files that are named as packs are; a bank of version 1 has none.

        Raises:
            StorageError: the folder may not be read.
        """
        names = list_folder(self.folder / PACKS) if self.manifest.format_version > 1 else []
        return [self.folder / PACKS / name for name in sorted(names) if _is_pack(name)]

    def knows(self, path: Path) -> bool:
        """Whether a file of this path is one that tasks are in, or are marked as removed by, as its name says."""
        if self.manifest.format_version > 1:
            if path.parent == self.folder / PACKS:
                return _is_pack(path.name)
            if path.parent == self.folder / TASKS and _stems([path.name], REMOVED):
                return True
        return path.parent == self.folder / TASKS and bool(_stems([path.name], SUFFIX))

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
        if (content := self.read_loose(path)) is not None:
            return path, content, len(content)
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
        return self.snapshot().names()

    def learned_from(self, reference: str) -> list[str]:
        """Names of the tasks that were learned from this reference, in the order of `names`.

        Raises:
            StorageError, FormatError: as names, and for a damaged loose task.
        """
        present = self.snapshot()
        found = {name for pack in present.packs for name in pack.find_task(reference) if name not in present.hidden}
        for name in present.loose:
            if (stored := self.read(name)) is not None:  # else removed meanwhile
                path, content, _ = stored
                if read_task_record(path, content, self.manifest).task == reference:
                    found.add(name)
        return sorted(found, key=natural_order)

    def summaries(self) -> list[TaskSummary]:
        """What a list shows of every task, in the order of `names`.

        Raises:
            StorageError, FormatError: as names, and for a damaged task.
        """
        present = self.snapshot()
        found = present.summaries(self.manifest)
        for name in present.loose:
            if (stored := self.read(name)) is not None:  # else removed meanwhile
                path, content, size = stored
                found.append(summarise_task(path, content, self.manifest, size))
        return sorted(found, key=lambda one: natural_order(one.name))

    def files(self) -> list[Path]:
        """All files that tasks are in, or are marked as removed by."""
        present = self.snapshot()
        paths = [*map(self.loose_path, present.loose), *map(self.removed_path, present.removed)]
        return [*paths, *(pack.path for pack in present.packs)]

    def write(self, name: str, content: bytes, *, replace: bool) -> None:
        """Store a task's file.

        Raises:
            FileExistsError: a task of this name is there, and `replace` is false.
            StorageError: the disk is full, read-only, or out of reach.
        """
        path = self.loose_path(name)
        make_folder(path.parent)
        with self.changing():  # else another process might store and pack one of this name, and this one would hide it
            if not replace and self.packed(name) is not None:
                raise FileExistsError(name)
            write_atomically(path, content, replace=replace)

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

    def read_loose(self, path: Path) -> bytes | None:
        """The bytes of a loose file; None where there is none."""
        try:
            return read_limited(path, MAX_TASK_BYTES)
        except FormatError as error:
            if isinstance(error.__cause__, GONE):  # not looked for again: it may have come meanwhile
                return None
            raise


def _is_pack(name: str) -> bool:
    return name.endswith(SUFFIX) and name[0] != "."


def _stems(files: Iterable[str], suffix: str) -> list[str]:
    return [stem for file in files if file.endswith(suffix) and is_task_name(stem := file.removesuffix(suffix))]
