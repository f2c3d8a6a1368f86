"""The command line as its users see it: a process, its streams and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CREATE = ("rotated-digits/0:360:120", "--epochs", "8")


@dataclass(frozen=True)
class Result:
    """What a run of `impress` left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Impress = Callable[..., Result]


def run(*arguments: object, cwd: Path, env: dict[str, str] | None = None, timeout: int = 300) -> Result:
    """Run `impress ARGUMENTS` to its end."""
    command = [sys.executable, "-m", "impress_cli", *map(str, arguments)]
    # COLUMNS would be of the terminal that the tests run in, or of pytest-xdist.
    environment = {**{name: text for name, text in os.environ.items() if name != "COLUMNS"}, **(env or {})}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder by its relative path; locks are no content."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
