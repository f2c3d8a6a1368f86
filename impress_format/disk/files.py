"""Writing files so that a killed process leaves the old one or the new one; reading plain files only.

Banks come from strangers: a file of one may be a link out of it, or a pipe that never ends. So files are opened without
following a link and without waiting, and what was opened is looked at, not what was there a moment before.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from impress_format.disk.locks import hold
from impress_format.disk.regular_file import NotRegular, is_running, machine_tag, open_regular
from impress_format.errors import FormatError, StorageError

_TEMPORARY = ".impress-"
_ABANDONED_AFTER_S = 600
_FOREIGN_ABANDONED_AFTER_S = 24 * 3600
"""Whether a process of another machine still runs cannot be asked; clocks of two machines may be hours apart."""
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_UNSUPPORTED = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EMLINK}
"""How file systems without hard links (exFAT, SMB, some FUSE) answer `link`, and others answer `renameat2`."""
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.ENOSYS}
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


def write_atomically(
    path: Path, content: bytes, *, replace: bool, check: Callable[[Path], None] = lambda _: None
) -> None:
    """Write `content` to `path`, durable when this returns.

    Args:
        check: is given the finished file before it gets its name; where it raises, what was at `path` stays.

    Raises:
        FileExistsError: `replace` is false and the file exists (it is left as it was).
        StorageError: the disk is full, read-only, or out of reach.
    """
    temporary = _temporary_in(path.parent)
    placed = False
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        check(temporary)
        if replace:
            temporary.replace(path)
        else:
            _place_new(temporary, path)
        placed = True
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        kept = "It is written, but may not outlast a power cut." if placed else "What was there before is kept."
        raise StorageError(f"cannot write {path}: {error.strerror or error}. {kept}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def refuse_taken(path: Path) -> StorageError:
    """What is raised where a file of the user's is not overwritten."""
    return StorageError(f"{path} is there already: remove it, or choose another name")


def check_writable(folder: Path, size: int) -> None:
    """Try, before work is begun, whether `size` bytes can be written to `folder`, by writing them; nothing stays.

    Raises:
        StorageError: the folder is missing or read-only, or the disk is full.
    """
    probe = _temporary_in(folder)
    try:
        with open(probe, "xb") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}. Nothing was started.") from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and its parents; one that is there already is fine."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create {path}: {error.strerror or error}") from error


def read_limited(path: Path, limit: int) -> bytes:
    """The file's bytes, refused before reading if it is no plain file or larger than `limit`.

    Raises:
        FormatError: missing, a link, not a file, too large, or a git-LFS pointer in place of the file.
    """
    with open_limited(path, limit) as (descriptor, size):
        content = _read(descriptor, size)
    refuse_pointer(path, content)
    return content


def refuse_pointer(path: Path, beginning: bytes) -> None:
    """Raises FormatError where git-LFS left a pointer in place of the file that begins so."""
    if beginning.startswith(_LFS_POINTER):
        raise FormatError(path, "is a git-LFS pointer, not the file itself: run `git lfs pull`")


@contextlib.contextmanager
def open_limited(path: Path, limit: int) -> Iterator[tuple[int, int]]:
    """A descriptor of a plain file, and its size, which is at most `limit`.

    Raises:
        FormatError: missing, a link, not a file, too large, or unreadable, also within the block.
    """
    try:
        descriptor = open_regular(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            if size > limit:
                raise FormatError(path, f"has {size:,} bytes, this file may have {limit:,}")
            yield descriptor, size
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise FormatError(path, "is missing") from error
    except NotRegular as error:
        raise FormatError(path, "is not a plain file") from error
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error


def is_there(path: Path) -> bool:
    """Whether anything has this path, a dangling link too. pathlib's own answer is "no" where it may not look.

    Raises:
        StorageError: it cannot be told.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(path, error) from error
    return True


def file_size(path: Path) -> int:
    """Bytes of a file.

    Raises:
        FormatError: it is missing or may not be looked at.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error


def list_folder(folder: Path) -> list[str]:
    """Names in a folder, in no order; none where there is no such folder.

    Raises:
        StorageError: it may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(folder, error) from error


def unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot read {path}: {error.strerror or error}")


def check_folder(path: Path) -> None:
    """Refuse a folder of a bank that is a link, which would lead out of the bank.

    Raises:
        FormatError: it is one.
    """
    if path.is_symlink():
        raise FormatError(path, "is a link, not a folder of its own")


def remove_abandoned(folder: Path) -> None:
    """Delete temporary files of processes that were killed while writing (a write takes milliseconds).

    A writer in another container or on another host may share the folder and not the process table; its files are left
    for a day.
    """
    for name in list_folder(folder):
        if name.startswith(_TEMPORARY) and name.endswith(".tmp"):
            with contextlib.suppress(OSError):
                path = folder / name
                if _is_abandoned(name, time.time() - path.stat().st_mtime):
                    path.unlink()


def _read(descriptor: int, size: int) -> bytes:
    """The first `size` bytes, fewer where the file has become shorter."""
    content = os.read(descriptor, size)
    while len(content) < size and (piece := os.read(descriptor, size - len(content))):  # one read gives 2 GiB at most
        content += piece
    return content


def _temporary_in(folder: Path) -> Path:
    return folder / f"{_TEMPORARY}{machine_tag()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _is_abandoned(name: str, age_s: float) -> bool:
    machine, _, rest = name.removeprefix(_TEMPORARY).partition("-")
    running = is_running(machine, rest.partition("-")[0])
    if running is None:
        return age_s > _FOREIGN_ABANDONED_AFTER_S
    return age_s > _ABANDONED_AFTER_S or not running


def _place_new(temporary: Path, path: Path) -> None:
    """Give a finished file its name, which must be free.

    A hard link fails if the name is taken; so does `renameat2` with RENAME_NOREPLACE. Where the file system has
    neither, all writers look and rename under one lock.

    Raises:
        FileExistsError: the name is taken.
    """
    for place in (os.link, _rename_no_replace):
        try:
            place(temporary, path)
            return
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    with hold(path.parent / ".place.lock", wait=True, busy="", remove=True):
        if is_there(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        temporary.rename(path)


def _rename_no_replace(source: Path, target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)  # glibc 2.28, musl 1.2.5; not elsewhere
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in _NO_FOLDER_SYNC:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
