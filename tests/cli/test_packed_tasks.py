"""Every command on packed tasks gives what it gives on loose ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commandline import Impress, run

QUICK = ("--epochs", 1, "--shots", 5)


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same bank with loose tasks and with packed ones."""
    folder = tmp_path_factory.mktemp("banks")
    loose, packed = folder / "loose.impress", folder / "packed.impress"
    for command in (
        ("bank", "create", loose, "rotated-digits/0", "rotated-digits/90", "--epochs", 1),
        ("task", "add", loose, "rotated-digits/10:40:10", *QUICK),
        ("task", "add", loose, "rotated-digits/50", *QUICK, "--granularity", 4, "--alpha-dtype", "int8"),
    ):
        assert run(*command, cwd=folder).code == 0
    shutil.copytree(loose, packed)
    assert run("bank", "pack", packed, cwd=folder).code == 0
    return loose, packed


def test_pack_says_what_it_did(impress: Impress, banks: tuple[Path, Path]) -> None:
    _, packed = banks
    done = impress("bank", "pack", packed, "--json").json
    assert (done["tasks"], done["packs"], done["loose"]) == (4, 2, 0)
    assert done["bytes"] == impress("stats", packed, "--json").json["bytes"]["tasks"]
    assert "4 tasks in 2 packs" in impress("bank", "pack", packed).out
    assert impress("bank", "verify", packed).code == 0


def test_commands_answer_alike(impress: Impress, banks: tuple[Path, Path]) -> None:
    answers = []
    for bank in banks:
        tasks = impress("task", "list", bank, "--json").json["tasks"]
        shown = impress("task", "show", bank, "rotated-digits/50", "--json").json
        measured = impress("eval", bank, "--json").json
        stats = impress("stats", bank, "--json").json
        again = impress("task", "add", bank, "rotated-digits/10:40:10", *QUICK, "--json").json["tasks"]
        for task in (*tasks, shown, *again):
            del task["bytes"]
        answers.append((tasks, shown, measured["tasks"], measured["mean_accuracy"], stats["tasks_served"], again))
    assert answers[0] == answers[1]
    assert impress("task", "add", banks[1], "rotated-digits/10", "--epochs", 2).code == 2


def test_packed_tasks_are_updated_and_removed(impress: Impress, banks: tuple[Path, Path]) -> None:
    answers = []
    for bank in banks:
        (updated,) = impress("task", "update", bank, "rotated-digits-20", "rotated-digits/25", *QUICK, "--json").json[
            "tasks"
        ]
        removed = impress("task", "remove", bank, "rotated-digits/30", "--json").json
        shown = impress("task", "show", bank, "rotated-digits-20", "--json").json
        assert impress("task", "show", bank, "rotated-digits-30").code == 2
        answers.append((updated["accuracy"], removed, shown["alpha"], shown["fit"]["start"], shown["task"]))
    assert answers[0] == answers[1]


def test_a_packed_bank_is_shared(impress: Impress, banks: tuple[Path, Path], tmp_path: Path) -> None:
    _, packed = banks
    assert impress("zoo", "push", packed, "--zoo", tmp_path / "zoo", "--name", "packed").code == 0
    assert impress("zoo", "verify", "--zoo", tmp_path / "zoo").code == 0
    assert impress("zoo", "pull", "packed", tmp_path / "b.impress", "--zoo", tmp_path / "zoo").code == 0
    there, here = (impress("task", "list", bank, "--json").json for bank in (packed, tmp_path / "b.impress"))
    assert there == here


def test_upgrade_from_version_1(impress: Impress, tmp_path: Path) -> None:
    bank = Path(shutil.copytree(Path(__file__).parents[1] / "golden" / "v1" / "digits.impress", tmp_path / "a.impress"))
    refused = impress("bank", "pack", bank)
    assert refused.code == 2
    assert "impress bank upgrade" in refused.err
    refused = impress("task", "add", bank, "rotated-digits/3", *QUICK, "--alpha-dtype", "int8")
    assert refused.code == 2
    assert "impress bank upgrade" in refused.err
    assert impress("bank", "upgrade", bank, "--json").json["written"] == 5
    assert "already" in impress("bank", "upgrade", bank).out
    assert impress("bank", "pack", bank).code == 0
    assert impress("bank", "verify", bank).code == 0
