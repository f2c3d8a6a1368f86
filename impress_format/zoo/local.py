"""Files of a zoo that are on this disk: looked at, read and copied; what the disk refuses is an error with its path.

Not pathlib's `exists`, `is_file` and `glob`: where a folder may not be searched they answer "no" in some releases of
Python and raise a bare PermissionError in others.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from impress_format.disk.files import read_limited, unreadable
from impress_format.errors import FormatError, StorageError, ZooError


def look_at(path: Path) -> os.stat_result | None:
    """What has this path, a link itself and not its target; None where there is nothing.

    Raises:
        StorageError: it may not be looked at.
    """
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def is_link(path: Path) -> bool:
    """Whether a link has this path.

    Raises:
        StorageError: it may not be looked at.
    """
    found = look_at(path)
    return found is not None and stat.S_ISLNK(found.st_mode)


def regular_size(path: Path) -> int | None:
    """Bytes of the plain file that has this path; None where there is none, or something else.

    Raises:
        StorageError: it may not be looked at.
    """
    found = look_at(path)
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None


def is_folder(path: Path) -> bool:
    """Whether a folder, or a link to one, has this path.

    Raises:
        StorageError: it may not be looked at.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(path, error) from error


def read_small(path: Path, limit: int) -> bytes:
    """A file of a zoo that is on this disk.

    Raises:
        ZooError: it is no plain file, cannot be read, or is larger than `limit`.
    """
    try:
        return read_limited(path, limit)
    except FormatError as error:
        raise ZooError(str(error)) from error


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes, durable when this returns.

    Raises:
        StorageError: it cannot be read or written.
    """
    try:
        with open(source, "rb") as read, open(target, "wb") as written:
            shutil.copyfileobj(read, written, 1 << 20)
            written.flush()
            os.fsync(written.fileno())
    except OSError as error:
        raise StorageError(f"cannot copy {source} to {target}: {error.strerror or error}") from error
