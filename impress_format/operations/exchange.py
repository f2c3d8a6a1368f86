"""Files that come from elsewhere: a task out of one bank into another of the same basis, and what a worker made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from impress_format.bank import Bank
from impress_format.disk.files import read_limited, refuse_taken, remove_abandoned, write_atomically
from impress_format.errors import UsageError
from impress_format.limits import MAX_TASK_BYTES
from impress_format.masks.mask_file import check_mask, place_mask
from impress_format.tasks.file import TaskSummary, check_task_name, read_task, rename_task, summarise_task
from impress_format.tasks.names import task_exists
from impress_format.tasks.seal import record_of_task
from impress_format.tasks.short import parse_task
from impress_format.tasks.store import TASKS


def export_task(bank: Bank, name_or_reference: str, path: Path) -> TaskSummary:
    """Write a task's own file to `path`, as it lies in the bank or comes out of a pack.

    Raises:
        TaskNotFound, AmbiguousTask: there is no such task, or several.
        FormatError: it is damaged.
        StorageError: there is another file at `path` already, or it cannot be written.
    """
    name = bank.find_task(name_or_reference)
    bank.read_task(name)  # all of it is checked: what is damaged does not travel
    content = bank.task_bytes(name)
    write_exported(path, content)
    return summarise_task(path, content, bank.manifest, len(content))


def write_exported(path: Path, content: bytes) -> None:
    """Write what a bank gives away to `path`, unless it is there already.

    Raises:
        StorageError: there is another file, or it cannot be written.
    """
    try:
        write_atomically(path, content, replace=False)
    except FileExistsError as error:
        if not path.is_file() or read_limited(path, MAX_TASK_BYTES) != content:
            raise refuse_taken(path) from error


def import_tasks(
    bank: Bank,
    paths: Sequence[Path],
    name: str | None = None,
    *,
    opened: Callable[[Path, bytes], bytes] = lambda _, content: content,
) -> list[TaskSummary]:
    """Store tasks from files. All are checked before the first is stored; one that is there, byte for byte, stays.

    Args:
        name: what a single task is to be called; default the name it has.
        opened: path and content of a file -> the file of the task in it.

    Raises:
        UsageError: no task may have this name, or it is one name for several files.
        TaskExists: another task has the name of one, in the bank or among the files.
        FormatError: a file is damaged, no task, or of another bank.
        StorageError: the disk said no.
    """
    if name is not None:
        check_task_name(name)
        if len(paths) > 1:
            raise UsageError(f"`name` {name} is one name for {len(paths)} files: leave it out, or import one file")
    remove_abandoned(bank.path / TASKS)
    arrived: dict[str, bytes] = {}
    for path in paths:
        own_name, content = _read(bank, path, opened(path, read_limited(path, MAX_TASK_BYTES)), name)
        present = bank.task_bytes(own_name) if bank.tasks.has(own_name) else content
        if arrived.setdefault(own_name, content) != content or present != content:
            raise task_exists(bank.path, [own_name])
    for own_name, content in arrived.items():
        if not bank.tasks.has(own_name):
            try:
                bank.tasks.write(own_name, content, replace=False)
            except FileExistsError as error:  # another process was faster
                raise task_exists(bank.path, [own_name]) from error
    return [bank.summarise_task(own_name) for own_name in arrived]


def _read(bank: Bank, path: Path, content: bytes, name: str | None) -> tuple[str, bytes]:
    """Name and file of a task that belongs to this bank: over its first masks, signed with its task classifier."""
    own_name = record_of_task(path, content, parse_task(path, content)).name
    read_task(path, content, own_name, bank.manifest, bank.identity)
    if name is None or name == own_name:
        return own_name, content
    renamed = rename_task(path, content, name, bank.manifest.format_version)
    read_task(path, renamed, name, bank.manifest, bank.identity)
    return name, renamed


def receive_mask(bank: Bank, index: int, content: bytes) -> None:
    """Store the file of a mask that was made elsewhere, checked as one on disk is.

    Raises:
        FormatError: it is damaged, or not the mask that was planned.
    """
    path = bank.mask_path(index)
    check_mask(path, bank.manifest, index, bank.identity, content)
    place_mask(path, bank.manifest, index, content)


def receive_task(bank: Bank, name: str, content: bytes) -> None:
    """Store the file of a task that was learned elsewhere, checked as one on disk is.

    Raises:
        FormatError: it is damaged, has another name, or belongs to another bank.
        TaskExists: a task of this name is there.
    """
    read_task(bank.task_path(name), content, name, bank.manifest, bank.identity)
    try:
        bank.tasks.write(name, content, replace=False)
    except FileExistsError as error:
        raise task_exists(bank.path, [name]) from error
