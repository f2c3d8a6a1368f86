"""Holding a folder or one name in it against other processes; a lock falls with the process that holds it.

`flock` where the file system has it. Where it has none (some FUSE, old NFS) a file that only one process can create
stands for the lock, with the machine and the process in it: one whose process is gone is taken over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from impress_format.disk.regular_file import is_running, machine_tag, open_regular
from impress_format.errors import StorageError

_NO_FLOCK = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_WAIT_S = 0.02
_UNFINISHED_AFTER_S = 10
"""A claim without text belongs to a process that was killed between creating and writing it."""
_FOREIGN_AFTER_S = 24 * 3600
"""Age at which another machine's claim counts as abandoned: its process cannot be asked."""


@contextlib.contextmanager
def exclusive(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold the folder's lock.

    Raises:
        StorageError: `wait` is false and another process holds it, or the folder cannot be written.
    """
    with hold(folder / ".lock", wait=wait, busy=f"another process is working on {folder}: wait for it to end"):
        yield


@contextlib.contextmanager
def hold(lock: Path, *, wait: bool, busy: str, remove: bool = False) -> Iterator[None]:
    """Hold the lock file `lock`, which is made if need be and, with `remove`, taken away at the end.

    Raises:
        StorageError: `busy`, where `wait` is false and another process holds it; or the folder cannot be written.
    """
    descriptor = _open_current(lock, wait=wait, busy=busy)
    if descriptor is None:
        with _claimed(lock.with_name(f"{lock.name}.claim"), wait=wait, busy=busy):
            yield
        return
    try:
        yield
    finally:
        if remove:
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)  # still held: who waits for it finds another file of this name
        os.close(descriptor)


def _open_current(lock: Path, *, wait: bool, busy: str) -> int | None:
    """A locked descriptor of the file that has this name now; None where there is no flock."""
    import fcntl

    while True:
        try:
            descriptor = open_regular(lock, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StorageError(f"cannot write to {lock.parent}: {error.strerror or error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise StorageError(busy) from error
        except FileNotFoundError:
            pass  # who held it took the file away
        except OSError as error:
            os.close(descriptor)
            if error.errno in _NO_FLOCK:
                return None
            raise StorageError(f"cannot lock {lock}: {error.strerror or error}") from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def _claimed(claim: Path, *, wait: bool, busy: str) -> Iterator[None]:
    text = f"{machine_tag()} {os.getpid()} {secrets.token_hex(8)}"
    while not _create(claim, text):
        if _is_stale(claim):
            _take_away(claim)
        elif wait:
            time.sleep(_WAIT_S)
        else:
            raise StorageError(busy)
    try:
        yield
    finally:
        if _read(claim) == text:
            with contextlib.suppress(OSError):
                claim.unlink()


def _create(claim: Path, text: str) -> bool:
    try:
        descriptor = os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(f"cannot write to {claim.parent}: {error.strerror or error}") from error
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
    return True


def _is_stale(claim: Path) -> bool:
    machine, _, rest = _read(claim).partition(" ")
    try:
        age = time.time() - claim.stat().st_mtime
    except OSError:
        return False
    if not machine:
        return age > _UNFINISHED_AFTER_S
    running = is_running(machine, rest.partition(" ")[0])
    return age > _FOREIGN_AFTER_S if running is None else not running


def _take_away(claim: Path) -> None:
    """Rename first: of two processes that find one claim stale, only one gets it away."""
    seen = _read(claim)
    aside = claim.with_name(f"{claim.name}.{secrets.token_hex(4)}")
    try:
        claim.rename(aside)
        if _read(aside) == seen:
            aside.unlink()
        else:  # another process took the stale one away and put its own here meanwhile
            aside.rename(claim)
    except OSError:
        time.sleep(_WAIT_S)


def _read(claim: Path) -> str:
    try:
        return claim.read_text(errors="replace")
    except OSError:
        return ""
