"""What the fault tests share: the fork server, and what undisturbed runs leave."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Helpers of another test folder, also when only this one is run.
sys.path.append(str(Path(__file__).parents[1] / "cli"))

from commands import COMMANDS, Undisturbed
from faulty import FaultyImpress


@pytest.fixture(scope="session")
def impress() -> Iterator[FaultyImpress]:
    server = FaultyImpress()
    yield server
    server.close()


@pytest.fixture(scope="session")
def undisturbed(impress: FaultyImpress, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Undisturbed]:
    """For each command: the folder before it, and what it leaves when nothing goes wrong."""
    return {name: Undisturbed.run(impress, tmp_path_factory.mktemp(name), name) for name in COMMANDS}
