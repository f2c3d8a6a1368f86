"""From a zoo to a bank on this disk: whole and checked, or not there at all.

Files gather in a hidden folder beside the target, `.TARGET.pull`. Its name is always the same, so that the next
call, after whatever ended this one, finds what came and asks for the rest. The target appears in one rename.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from impress_format.disk.files import is_there, make_folder
from impress_format.disk.locks import exclusive
from impress_format.errors import FormatError, StorageError, UsageError, ZooError
from impress_format.operations.verify import verify_bank
from impress_format.zoo.entry import bank_digest, file_sha256
from impress_format.zoo.index import ZooBank, ZooFile
from impress_format.zoo.local import is_link, regular_size
from impress_format.zoo.sources import Source

_LOCK = ".lock"


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What a pull did: `fetched` files came over, `kept` were there from before."""

    path: Path
    fetched: int
    kept: int
    already_there: bool = False


def pull_bank(source: Source, bank: ZooBank, target: Path, *, on_file: Callable[[str], None]) -> Pulled:
    """Download `bank` to the folder `target`, which must not exist; the very same bank there is fine.

    Raises:
        UsageError: something else is at `target`.
        ZooError: a file cannot be had, or is not the one of the index; nothing is put into place.
        StorageError: the disk is full, or cannot be read or written.
    """
    if _is_there(bank, target):
        return Pulled(path=target, fetched=0, kept=len(bank.files), already_there=True)
    staging = target.parent / f".{target.name}.pull"
    _make_staging(staging)
    try:
        with exclusive(staging, wait=True):
            return _pull(source, bank, target, staging, on_file)
    except StorageError:
        # Another pull was faster and has renamed the folder away between our making it and our locking it.
        if not is_there(staging) and _is_there(bank, target):
            return Pulled(path=target, fetched=0, kept=len(bank.files), already_there=True)
        raise


def _pull(source: Source, bank: ZooBank, target: Path, staging: Path, on_file: Callable[[str], None]) -> Pulled:
    if _is_there(bank, target):  # another pull put it there while this one waited for the lock
        _remove_empty(staging)
        return Pulled(path=target, fetched=0, kept=len(bank.files), already_there=True)
    _remove_foreign(staging, bank)
    fetched = 0
    for file in bank.files:
        on_file(file.path)
        fetched += fetch_file(source, bank, file, staging)
    outcome = verify_bank(staging)
    if not outcome.ok:
        problem = outcome.problems[0]
        raise ZooError(
            f"{source.label}: {bank.name}/{problem.file} {problem.error}. The zoo itself has it so: report it to "
            f"who keeps the zoo. There is no bank at {target}."
        )
    _put_into_place(staging, target)
    return Pulled(path=target, fetched=fetched, kept=len(bank.files) - fetched)


def fetch_file(source: Source, bank: ZooBank, file: ZooFile, folder: Path) -> bool:
    """Bring one file of `bank` into `folder`, and say whether it had to be fetched.

    Raises:
        ZooError: it cannot be had, or its bytes are not those of the index.
        StorageError: `folder` cannot be read or written.
    """
    place = folder / file.path
    if _is_file(place, file):
        return False
    make_folder(place.parent)
    # The name holds the digest: a part of an older version of the file is never resumed.
    part = place.parent / f".{place.name}.{file.sha256[:16]}.part"
    resumed = is_there(part)
    source.fetch(f"{bank.folder}/{file.path}", part, file.bytes)
    try:
        if resumed and not _is_file(part, file):
            part.unlink()  # what lay here was bad, perhaps torn by a crash: once more, from the first byte
            source.fetch(f"{bank.folder}/{file.path}", part, file.bytes)
        if not _is_file(part, file):
            part.unlink()
            raise ZooError(
                f"{source.label}: {bank.folder}/{file.path} has other bytes than the index says (SHA-256 "
                f"{file.sha256[:12]}… expected): the zoo is damaged or was changed just now. It was not kept."
            )
        _sync(part)
        part.replace(place)
    except OSError as error:
        raise StorageError(f"cannot write {place}: {error.strerror or error}") from error
    return True


def _is_there(bank: ZooBank, target: Path) -> bool:
    """Whether the very bank is at `target`.

    Raises:
        UsageError: something else is.
        StorageError: what is there may not be read.
    """
    if not is_there(target):
        return False
    why = ""
    try:
        if bank_digest(target.resolve()) == bank.digest:  # the user may have a link to it
            return True
    except FormatError as error:  # not raised as it is: whatever is wrong there, it is not what was asked for
        why = f" ({error})"
    except UsageError:
        pass
    raise UsageError(
        f"{target} exists and is not bank {bank.name} of the zoo{why}: give another TARGET, or move it away"
    )


def _make_staging(staging: Path) -> None:
    if is_link(staging):
        raise StorageError(f"{staging} is a link: remove it")
    make_folder(staging)


def _remove_foreign(staging: Path, bank: ZooBank) -> None:
    """Delete what an earlier version of the bank left, and whatever else is no part of this one."""
    wanted = {staging / file.path for file in bank.files}
    wanted |= {
        path.parent / f".{path.name}.{file.sha256[:16]}.part" for file in bank.files for path in (staging / file.path,)
    }
    try:
        # With `onerror`, unlike rglob: what may not be read cannot be cleaned, and says so.
        for place, folders, files in os.walk(staging, topdown=False, onerror=_raise):
            for path in (Path(place, name) for name in files):
                if path.is_symlink() or (path.is_file() and path not in wanted and path != staging / _LOCK):
                    path.unlink()
            for path in (Path(place, name) for name in folders):
                if path.is_symlink():
                    path.unlink()
                elif not any(path.iterdir()):
                    path.rmdir()
    except OSError as error:
        raise StorageError(f"cannot clean {error.filename or staging}: {error.strerror or error}") from error


def _put_into_place(staging: Path, target: Path) -> None:
    """Make the finished folder durable and give it its name."""
    try:
        for folder in (*(path for path in staging.iterdir() if path.is_dir()), staging):
            _sync(folder)
        if os.path.lexists(target):
            raise UsageError(f"{target} was made meanwhile: give another TARGET, or move it away and pull again")
        staging.rename(target)
        # Only now: until the rename, the lock keeps others out of the folder.
        (target / _LOCK).unlink(missing_ok=True)
        with contextlib.suppress(PermissionError):  # a folder to write to, not to read: it cannot be synced
            _sync(target.parent)
    except OSError as error:
        raise StorageError(f"cannot put {target} into place: {error.strerror or error}") from error


def _remove_empty(staging: Path) -> None:
    with contextlib.suppress(OSError):
        if [path.name for path in staging.iterdir()] == [_LOCK]:
            (staging / _LOCK).unlink()
            staging.rmdir()


def _is_file(path: Path, file: ZooFile) -> bool:
    return regular_size(path) == file.bytes and file_sha256(path) == file.sha256


def _raise(error: OSError) -> None:
    raise error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
