"""`impress reproduce`: one figure from the embedded digits, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import Impress


def test_unknown_figures_are_refused_before_anything_is_made(impress: Impress, tmp_path: Path) -> None:
    done = impress("reproduce", "figure-5", "--output", tmp_path / "out")
    assert done.code == 2
    assert "no figure figure-5: expected all or one of figure-2, figure-3, figure-4, figure-6" in done.err
    assert not (tmp_path / "out").exists()


def test_missing_data_are_told_of(impress: Impress, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra reproduce is not installed")
    done = impress("reproduce", "gn", "--scale", "small", "--output", tmp_path / "out", "--data-dir", tmp_path / "none")
    assert (done.code, done.out) == (1, "")
    assert "MNIST is not in" in done.err


@pytest.mark.slow
def test_all_figures_of_the_embedded_digits(impress: Impress, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra reproduce is not installed")
    done = impress("reproduce", "all", "--output", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    figures = {one["name"]: one for one in done.json["figures"]}
    assert set(figures) == {"figure-2", "figure-3", "figure-6", "figure-7", "figure-8", "basis-gn", "gn"}
    assert figures["figure-2"]["claims"][0]["verdict"] == "yes"
    assert all(Path(path).stat().st_size for one in figures.values() for path in one["files"])
    again = impress("reproduce", "figure-2", "--output", tmp_path / "out")
    assert again.code == 0
    assert "RotatedMNIST" in again.out
