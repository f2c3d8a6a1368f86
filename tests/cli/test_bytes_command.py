"""`impress task add --bytes`."""

from __future__ import annotations

from pathlib import Path

from commandline import Impress


def test_bytes_are_kept_and_the_choice_is_told(impress: Impress, bank: Path) -> None:
    done = impress("task", "add", bank, "rotated-digits/70", "--bytes", 640, "--epochs", 1)
    assert done.code == 0
    assert "640 bytes hold coefficients of 3 masks and a residual of" in done.err
    size = (bank / "tasks" / "rotated-digits-70.safetensors").stat().st_size
    assert 616 <= size <= 640


def test_wrong_use_names_the_options(impress: Impress, bank: Path) -> None:
    both = impress("task", "add", bank, "rotated-digits/71", "--bytes", 640, "--granularity", 4)
    assert (both.code, "--bytes" in both.err, "--granularity" in both.err) == (2, True, True)
    small = impress("task", "add", bank, "rotated-digits/71", "--bytes", 50)
    assert (small.code, "--bytes 50: the smallest task" in small.err) == (2, True)
    assert "without a signature (--no-signature) about 67 less" in " ".join(small.err.split())
