"""Banks to try the command line on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

# Helpers of another test folder, also when only this one is run.
sys.path.append(str(Path(__file__).parents[1] / "format"))

from commandline import CREATE, Impress, run


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
