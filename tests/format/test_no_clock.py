"""No test depends on how fast the machine is: one profile of hypothesis for all, and no wait that ends by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parents[1]
OF_TIME = re.compile(r"\bdeadline\b|suppress_health_check|\b(?:join|wait|communicate|run)\([^()]*\btimeout=\d")
"""What a test says that gives hypothesis a clock of its own, or gives up on a thread or a process."""


def test_hypothesis_has_no_clock() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check


def test_no_test_has_settings_of_its_own_for_that() -> None:
    own = (Path(__file__), TESTS / "conftest.py")
    files = [path for path in TESTS.rglob("*.py") if path not in own and "benchmarks" not in path.parts]
    assert len(files) > 100
    assert [path for path in files if OF_TIME.search(path.read_text())] == []


@pytest.mark.parametrize(
    "line", ["@settings(deadline=200)", "process.wait(timeout=30)", "deadline = time.monotonic() + 60"]
)
def test_the_check_itself_notices(line: str) -> None:
    assert OF_TIME.search(line)
