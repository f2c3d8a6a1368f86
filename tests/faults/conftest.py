"""What the fault tests share: the fork server, and what undisturbed runs leave."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Helpers of another test folder, also when only this one is run.
sys.path.append(str(Path(__file__).parents[1] / "cli"))

from commands import COMMANDS, Undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Undisturbed]:
    """For each command: the folder before it, and what it leaves when nothing goes wrong."""
    return {name: Undisturbed.run(tmp_path_factory.mktemp(name), name) for name in COMMANDS}
