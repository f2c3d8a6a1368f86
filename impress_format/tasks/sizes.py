"""What the tasks of a bank take on disk, all of one moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from impress_format.disk.files import file_size
from impress_format.errors import FormatError
from impress_format.parts.table import PARTS
from impress_format.tasks.file import TaskSummary, summarise_task
from impress_format.tasks.short import parse_task
from impress_format.tasks.snapshot import Snapshot, natural_order
from impress_format.tasks.store import GONE, TaskStore

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a list shows of every task, bytes of all files that tasks are in, and bytes that each part takes in them."""

    summaries: list[TaskSummary]
    bytes: int
    part_bytes: dict[str, int]


class _GoneMeanwhile(Exception):
    """A file of a snapshot is not there any more."""


def measure_tasks(store: TaskStore) -> Measured:
    """What a list shows of every task of this store, and what all of them take on disk, of one moment.

    Raises:
        StorageError: a folder may not be read.
        FormatError: a task is damaged.
    """
    return _at_once(store, _measure)


def bytes_on_disk(store: TaskStore) -> int:
    """Bytes of all files that tasks of this store are in.

    Raises:
        StorageError: a folder may not be read.
        FormatError: a pack is damaged.
    """
    return _at_once(store, _bytes_on_disk)


def _at_once(store: TaskStore, ask: Callable[[TaskStore, Snapshot], T]) -> T:
    """What `ask` says of a snapshot of which no file went while it was asked; each time that one did, another
    process removed or packed it.
    """
    while True:
        try:
            return ask(store, store.snapshot())
        except _GoneMeanwhile:
            continue


def _measure(store: TaskStore, present: Snapshot) -> Measured:
    summaries = present.summaries(store.manifest)
    total = sum(len(pack.mapped) for pack in present.packs)
    parts = dict.fromkeys(sorted(part.name for part in PARTS), 0)
    for pack in present.packs:
        for part, column in pack.parts.items():
            parts[part] += column.nbytes
    for name in present.loose:
        path = store.loose_path(name)
        if (content := store.read_loose(path)) is None:
            raise _GoneMeanwhile
        summaries.append(summarise_task(path, content, store.manifest, len(content)))
        total += len(content)
        for part, tensor in parse_task(path, content).tensors.items():
            parts[part] += tensor.size
    summaries.sort(key=lambda one: natural_order(one.name))
    return Measured(summaries=summaries, bytes=total, part_bytes=parts)


def _bytes_on_disk(store: TaskStore, present: Snapshot) -> int:
    total = sum(len(pack.mapped) for pack in present.packs)
    for name in present.loose:
        try:
            total += file_size(store.loose_path(name))
        except FormatError as error:
            if isinstance(error.__cause__, GONE):
                raise _GoneMeanwhile from error
            raise
    return total
