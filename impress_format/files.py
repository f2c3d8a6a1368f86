"""Writing files so that a killed process leaves the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from impress_format.errors import FormatError, StorageError

_TEMPORARY = ".impress-"
_ABANDONED_AFTER_S = 600


def write_atomically(path: Path, content: bytes, *, replace: bool) -> None:
    """Write `content` to `path`, durable when this returns.

    Raises:
        FileExistsError: `replace` is false and the file exists (it is left as it was).
        StorageError: the disk is full, read-only, or out of reach.
    """
    temporary = path.parent / f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike rename, fails if the name is taken
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}. What was there before is kept.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and its parents; one that is there already is fine."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create {path}: {error.strerror or error}") from error


def read_limited(path: Path, limit: int) -> bytes:
    """The file's bytes, refused before reading if it is no plain file or larger than `limit`.

    Raises:
        FormatError: missing, a link, not a file, or too large.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise FormatError(path, "is missing" if not path.exists() else "is not a plain file")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error
    if len(content) > limit:
        raise FormatError(path, f"is larger than the {limit:,} bytes this file may have")
    return content


def remove_abandoned(folder: Path) -> None:
    """Delete temporary files of processes that were killed while writing (a write takes milliseconds)."""
    for path in folder.glob(f"{_TEMPORARY}*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S or not _is_running(path):
                path.unlink()


@contextlib.contextmanager
def exclusive(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold the folder's lock; it falls with the process that holds it, however that ends.

    Raises:
        StorageError: `wait` is false and another process holds it, or the folder cannot be written.
    """
    import fcntl

    try:
        file = open(folder / ".lock", "ab")  # noqa: SIM115  closed below, after the lock is tried
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(f"another process is working on {folder}: wait for it to end") from error
        yield


def _is_running(temporary: Path) -> bool:
    process = temporary.name.removeprefix(_TEMPORARY).partition("-")[0]
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
