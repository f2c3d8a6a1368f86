"""docs/results: few words beside each table, no history of trials."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "results").glob("*.md"))
MOST = 9
"""Lines of prose beside a table; it says what the reader takes from it, and no more."""


def runs_of_prose(text: str) -> list[list[str]]:
    """Lines that are neither table, nor code, nor heading, from one of these to the next."""
    runs: list[list[str]] = [[]]
    for line in re.sub(r"```.*?```", "#", text, flags=re.DOTALL).splitlines():
        if line.startswith(("|", "    ", "#", "!")):
            runs.append([])
        elif line.strip():
            runs[-1].append(line)
    return runs


def test_all_pages_are_there() -> None:
    assert len(PAGES) == 9


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_table_has_less_than_ten_lines_of_prose(page: Path) -> None:
    for run in runs_of_prose(page.read_text()):
        assert len(run) <= MOST, "\n".join(run)
        assert all(len(line) <= 130 for line in run)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_page_speaks_of_issues_or_of_what_was_before(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"\bissues?\b", text)
    assert page.stem == "README" or "[how things are measured](README.md)" in text
