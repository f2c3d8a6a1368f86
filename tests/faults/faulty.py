"""`impress` under faults: a process that is killed, a disk that says no, at a chosen file operation."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from forked import the_server


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit status (negative: by that signal), what it printed, the file operations it came to."""

    code: int
    out: str
    err: str
    operations: tuple[str, ...]


def impress_with_faults(
    *arguments: object,
    cwd: Path,
    at: int = 0,
    action: str = "kill",
    kill_after_s: float | None = None,
    links: bool = True,
) -> Ended:
    """Run `impress ARGUMENTS` in `cwd`; at its file operation number `at` below `cwd`, `action` happens.

    Args:
        action: `kill`, or the name of an error number to raise there.
        kill_after_s: kill it after this time instead.
        links: false for a file system that has neither hard links nor renameat2.
    """
    with tempfile.TemporaryDirectory() as beside:
        log = Path(beside) / "log"
        faults = {"at": at, "action": action, "kill_after_s": kill_after_s, "links": links, "log": str(log)}
        code, out, err = the_server().run(list(map(str, arguments)), cwd=cwd, env=dict(os.environ), faults=faults)
        operations = log.read_text().split() if log.exists() else []
    return Ended(code, out, err, tuple(operations))
