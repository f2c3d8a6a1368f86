"""The command line as its users see it: a process, its streams and its exit status."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import HANGS_AFTER_S, the_server

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


def run(*arguments: object, cwd: Path, env: dict[str, str] | None = None, timeout: int = HANGS_AFTER_S) -> Result:
    """Run `impress ARGUMENTS` to its end, in a fork of a process that has torch imported (forked.py).

    What stands before a Python that starts, and what Python itself prints, is tried by test_startup and test_output.
    """
    # COLUMNS would be of the terminal that the tests run in, or of pytest-xdist.
    environment = {**{name: text for name, text in os.environ.items() if name != "COLUMNS"}, **(env or {})}
    code, out, err = the_server().run(list(map(str, arguments)), cwd=cwd, env=environment, timeout_s=timeout)
    return Result(code, out, err)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder by its relative path; locks are no content."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
