"""The command line as its users see it: a process, its streams and its exit status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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


def run(*arguments: object, cwd: Path, env: dict[str, str] | None = None) -> Result:
    """Run `impress ARGUMENTS` to its end."""
    command = [sys.executable, "-m", "impress_cli", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=300, check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def impress(tmp_path: Path) -> Impress:
    """`impress`, run in an empty folder."""
    return lambda *arguments, **kwargs: run(*arguments, cwd=tmp_path, **kwargs)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bank with two tasks, trained once. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("trained")
    created = run("bank", "create", "a.impress", *CREATE, cwd=folder)
    assert created.code == 0, created.err
    added = run("task", "add", "a.impress", "rotated-digits/60:360:120", "--epochs", "5", cwd=folder)
    assert added.code == 0, added.err
    return folder / "a.impress"


@pytest.fixture
def bank(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained bank, to be changed at will."""
    return Path(shutil.copytree(trained, tmp_path / "a.impress"))
