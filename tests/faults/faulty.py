"""`impress` under faults: a process that is killed, a disk that says no, at a chosen file operation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit status (negative: by that signal), what it printed, the file operations it came to."""

    code: int
    out: str
    err: str
    operations: tuple[str, ...]


class FaultyImpress:
    """Runs commands one after the other in forks of one process, each in about a tenth of a second."""

    def __init__(self) -> None:
        server = Path(__file__).parent / "forkserver.py"
        self._process = subprocess.Popen(
            [sys.executable, str(server)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __call__(
        self,
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
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as beside:
            files = {name: Path(beside) / name for name in ("stdout", "stderr", "log")}
            request = {
                "arguments": list(map(str, arguments)), "cwd": str(cwd), "at": at, "action": action,
                "kill_after_s": kill_after_s, "links": links, **{name: str(path) for name, path in files.items()},
            }  # fmt: skip
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code = json.loads(self._process.stdout.readline())["code"]
            said = {name: path.read_text() if path.exists() else "" for name, path in files.items()}
        return Ended(code, said["stdout"], said["stderr"], tuple(said["log"].split()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
