"""`impress stats --table2`."""

from __future__ import annotations

import pytest
from commandline import Impress

KEYS = {"dataset", "model", "params", "masks", "layers", "alpha", "phi_kb", "savings"}


def test_rows_have_what_programs_count_on(impress: Impress) -> None:
    done = impress("stats", "--table2", "--json")
    assert done.code == 0, done.err
    rows = done.json["rows"]
    assert all(set(row) >= KEYS for row in rows)
    assert all(row["phi_kb"] == row["paper"]["phi_kb"] and row["savings"] == row["paper"]["savings"] for row in rows)


def test_people_see_where_a_printed_row_does_not_follow(impress: Impress) -> None:
    out = impress("stats", "--table2").out
    assert "SplitCIFAR-100, ResNet-18, narrow: printed as 1.99 x" in out
    assert "16 bits cannot index a layer of 235,200 weights" in out


def test_tasks_that_share_a_basis_are_counted_as_asked(impress: Impress) -> None:
    rows = impress("stats", "--table2", "--total-tasks", 5000, "--json").json["rows"]
    assert {row["here"]["tasks"] for row in rows} == {5000}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give a bank, or --table2"),
        (("some.impress", "--table2"), "not both"),
        (("--table2", "--total-tasks", "0"), "--total-tasks 0: expected 1 to"),
    ],
)
def test_wrong_use_is_refused(impress: Impress, arguments: tuple[str, ...], words: str) -> None:
    done = impress("stats", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
