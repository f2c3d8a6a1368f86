"""`impress task add --residual`."""

from __future__ import annotations

from pathlib import Path

from commandline import Impress


def test_a_residual_is_stored_listed_and_shown(impress: Impress, bank: Path) -> None:
    words = ("--epochs", 1, "--shots", 5, "--residual", 800, "--residual-bits", 2)
    (task,) = impress("task", "add", bank, "rotated-digits/66", *words, "--json").json["tasks"]
    assert (task["residual"], task["coefficients"]) == (400, 9)
    listed = {one["name"]: one["residual"] for one in impress("task", "list", bank, "--json").json["tasks"]}
    assert listed["rotated-digits-66"] == 400
    shown = impress("task", "show", bank, "rotated-digits-66")
    assert (shown.code, "400" in shown.out) == (0, True)
    alone = impress("task", "add", bank, "rotated-digits/67", *words, "--no-alpha", "--json").json["tasks"][0]
    assert alone["coefficients"] == 0
    assert impress("task", "show", bank, "rotated-digits-67").code == 0
    assert impress("bank", "verify", bank).code == 0


def test_wrong_use_names_the_options(impress: Impress, bank: Path) -> None:
    done = impress("task", "add", bank, "rotated-digits/68", "--no-alpha")
    assert (done.code, "--residual" in done.err) == (2, True)
    done = impress("task", "add", bank, "rotated-digits/68", "--residual", 12)
    assert (done.code, "--residual 12" in done.err) == (2, True)


def test_a_bank_without_masks_is_shown_and_counted(impress: Impress, tmp_path: Path) -> None:
    bare = tmp_path / "bare.impress"
    assert impress("bank", "create", bare, "rotated-digits/0:360:180", "--masks-per-task", 0).code == 0
    words = ("--epochs", 1, "--no-alpha", "--residual", 800)
    assert impress("task", "add", bare, "rotated-digits/45", "rotated-digits/90", *words).code == 0
    assert impress("bank", "show", bare).code == 0
    stats = impress("stats", bare, "--json").json
    assert (stats["masks"], stats["bytes"]["masks"], stats["tasks_served"]) == (0, 0, 2)
    assert impress("stats", bare, "--total-tasks", 100).code == 0
