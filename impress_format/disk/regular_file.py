"""Opening files that may be hostile, and telling this machine's processes from another's."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import stat
from pathlib import Path


class NotRegular(OSError):
    """A link, folder, pipe, socket or device stands where a plain file must."""


def open_regular(path: Path, flags: int) -> int:
    """A descriptor of a plain file: never of a link's target, and never waiting for a pipe's other end."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:  # a link, a socket, a folder
            raise NotRegular(error.errno, "it is not a plain file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular(errno.EINVAL, "it is not a plain file")
    return descriptor


@functools.cache
def machine_tag() -> str:
    """Eight hex digits, the same for all processes that can see each other: of one boot and one process namespace."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):  # no Linux: the host's name has to do
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def is_running(machine: str, process: str) -> bool | None:
    """Whether a process that wrote its `machine_tag` and number down still runs; None if that cannot be asked here."""
    if machine != machine_tag():
        return None
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True
