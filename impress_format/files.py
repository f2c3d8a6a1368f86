"""Writing files so that a killed process leaves the old one or the new one; reading plain files only.

Banks come from strangers: a file of one may be a link out of it, or a pipe that never ends. So files are opened without
following a link and without waiting, and what was opened is looked at, not what was there a moment before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
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
        with os.fdopen(_open_plain(path, os.O_RDONLY), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                return file.read(size)
    except FileNotFoundError as error:
        raise FormatError(path, "is missing") from error
    except _NotPlain as error:
        raise FormatError(path, "is not a plain file") from error
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error
    raise FormatError(path, f"has {size:,} bytes, this file may have {limit:,}")


def check_folder(path: Path) -> None:
    """Refuse a folder of a bank that is a link, which would lead out of the bank.

    Raises:
        FormatError: it is one.
    """
    if path.is_symlink():
        raise FormatError(path, "is a link, not a folder of its own")


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
        file = os.fdopen(_open_plain(folder / ".lock", os.O_RDWR | os.O_CREAT), "rb")
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(f"another process is working on {folder}: wait for it to end") from error
        yield


class _NotPlain(OSError):
    """A link, folder, pipe, socket or device stands where a plain file must."""


def _open_plain(path: Path, flags: int) -> int:
    """A descriptor of a plain file: never of a link's target, and never waiting for a pipe's other end."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:  # a link, a socket, a folder
            raise _NotPlain(error.errno, "it is not a plain file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _NotPlain(errno.EINVAL, "it is not a plain file")
    return descriptor


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
