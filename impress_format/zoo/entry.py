"""From a bank in a folder to its entry in an index: its files, their sizes and digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from impress_format.bank import open_bank
from impress_format.bank_files.table import files_of as kept_once
from impress_format.disk.files import unreadable
from impress_format.errors import FormatError, StorageError, UsageError
from impress_format.zoo.index import MAX_TAGS, ZooBank, ZooFile, check_name, entry_problem, files_digest, one_line
from impress_format.zoo.local import is_link, look_at, regular_size

_CHUNK = 1 << 20


def make_entry(folder: Path, name: str, *, title: str, description: str, tags: Sequence[str]) -> ZooBank:
    """The index entry of the bank in `folder`. Only files that its manifest accounts for are named.

    Raises:
        UsageError: the name cannot be used, or the bank is larger than a zoo takes.
        FormatError: a file is missing or is a link.
        StorageError: a file may not be read.
    """
    bank = open_bank(folder)
    while True:
        files, tasks = bank_files(folder), len(bank.task_names())
        if {file.path for file in files}.issuperset(_relative(folder, bank.tasks.files())):
            break  # else another process stored or packed some between the two
    entry = ZooBank(
        name=check_name(name),
        title=one_line(title),
        description=one_line(description),
        tags=tuple(one_line(tag) for tag in tags)[:MAX_TAGS],
        backbone=bank.backbone.arch,
        masks=len(bank.manifest.masks),
        tasks=tasks,
        bytes=sum(file.bytes for file in files),
        digest=files_digest(files),
        files=files,
    )
    if problem := entry_problem(entry):
        raise UsageError(f"{folder} cannot be in a zoo: {problem}")
    return entry


def bank_files(folder: Path) -> tuple[ZooFile, ...]:
    """The files of the bank in `folder` with size and SHA-256, by path; hidden files are no part of it.

    Raises:
        FormatError: a file that the manifest names is missing, or is a link.
        StorageError: a file may not be read.
    """
    bank = open_bank(folder)
    paths = [bank.manifest_path, *(bank.mask_path(index) for index in range(len(bank.manifest.masks)))]
    paths += [bank.files.path(file) for file in kept_once(bank.files)]
    while True:
        tasks = bank.tasks.files()
        try:
            return tuple(_describe(folder, path) for path in _relative(folder, (*paths, *tasks)))
        except (FormatError, StorageError):
            if all(map(look_at, tasks)):
                raise  # else another process packed or removed some


def bank_digest(folder: Path) -> str:
    """Digest of a whole bank: all its files, whatever order a disk lists them in."""
    return files_digest(bank_files(folder))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read piece by piece.

    Raises:
        StorageError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise unreadable(path, error) from error
    return digest.hexdigest()


def _relative(folder: Path, paths: Iterable[Path]) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _describe(folder: Path, relative: str) -> ZooFile:
    path = folder / relative
    size = regular_size(path)
    if size is None or is_link(path.parent):
        raise FormatError(path, "is not a plain file" if look_at(path) else "is missing")
    return ZooFile(path=relative, bytes=size, sha256=file_sha256(path))
