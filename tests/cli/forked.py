"""`impress` in forks of one process that has torch imported: the same commands, without the seconds of starting."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HANGS_AFTER_S = 3600
"""A command that takes longer hangs, however busy the machine is."""
Ran = tuple[int, str, str]
"""Exit status (negative: by that signal), stdout and stderr."""


class ForkServer:
    """Runs commands, each in a process of its own."""

    def __init__(self) -> None:
        server = Path(__file__).parent / "forkserver.py"
        self._process = subprocess.Popen(
            [sys.executable, str(server)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: dict[str, str],
        timeout_s: int = HANGS_AFTER_S,
        faults: dict[str, Any] | None = None,
    ) -> Ran:
        """Run `impress ARGUMENTS` to its end.

        Args:
            faults: what is to go wrong, for forkserver.py.
        """
        return self.run_at_once([arguments], cwd=cwd, env=env, timeout_s=timeout_s, faults=faults)[0]

    def run_at_once(
        self,
        commands: Sequence[Sequence[str]],
        *,
        cwd: Path,
        env: dict[str, str],
        timeout_s: int = HANGS_AFTER_S,
        faults: dict[str, Any] | None = None,
    ) -> list[Ran]:
        """Run several commands side by side to their ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as beside:
            outputs = [
                {name: Path(beside) / f"{number}-{name}" for name in ("stdout", "stderr")}
                for number in range(len(commands))
            ]
            requests = [
                {
                    "arguments": list(arguments), "cwd": str(cwd), "env": env, "timeout_s": timeout_s,
                    "kill_after_s": None, "links": True, "log": None, **(faults or {}),
                    **{name: str(path) for name, path in files.items()},
                }
                for arguments, files in zip(commands, outputs, strict=True)
            ]  # fmt: skip
            self._process.stdin.write(json.dumps(requests) + "\n")
            self._process.stdin.flush()
            codes = json.loads(self._process.stdout.readline())
            said = [
                [path.read_bytes().decode(errors="surrogateescape") if path.exists() else "" for path in o.values()]
                for o in outputs
            ]
        return [(code, out, err) for code, (out, err) in zip(codes, said, strict=True)]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@functools.cache
def the_server() -> ForkServer:
    """One for all tests of this process, started when it is first needed."""
    server = ForkServer()
    atexit.register(server.close)
    return server
