"""`impress task discover`."""

from __future__ import annotations

from pathlib import Path

from commandline import Impress

WORDS = ("rotated-digits/100", "rotated-digits/60", "--chunk", 128, "--images", 256, "--epochs", 1)


def test_json_has_every_key_and_the_table_says_the_same(impress: Impress, bank: Path) -> None:
    found = impress("task", "discover", bank, *WORDS, "--json").json
    assert set(found) == {"rule", "chunk", "tasks", "new", "right"}
    assert (found["rule"], found["chunk"]) == ("signature", 128)
    assert sum(sum(task["taken"].values()) for task in found["tasks"]) == 4
    assert found["new"] == sum(task["new"] for task in found["tasks"])
    listed = {task["name"] for task in impress("task", "list", bank, "--json").json["tasks"]}
    assert {task["name"] for task in found["tasks"] if task["new"]} <= listed
    printed = impress("task", "discover", bank, *WORDS).out  # what was opened before is known now
    assert "rotated-digits/100 (2)" in printed
    assert "chunks were taken for the task that is theirs" in printed


def test_wrong_use_names_the_option(impress: Impress, bank: Path) -> None:
    done = impress("task", "discover", bank, "rotated-digits/60", "--chunk", 1)
    assert (done.code, "--chunk 1" in done.err) == (2, True)
