"""zoo/rebuild.py: the commands of a card, and what it says of a bank that came out otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest

from impress_format import open_bank
from impress_format.operations.exchange import export_task, import_tasks
from impress_format.zoo.index import find_bank, parse_index

ZOO = Path(__file__).parents[2] / "zoo"
NAMES = [bank.name for bank in parse_index("zoo", (ZOO / "index.json").read_bytes()).banks]


@pytest.mark.parametrize("name", NAMES)
def test_every_card_says_how_its_bank_is_made(rebuild: ModuleType, name: str) -> None:
    commands = rebuild.commands((ZOO / f"{name}.md").read_text())
    assert [words[:3] for words in commands if words[1:3] == ["bank", "create"]] == [["impress", "bank", "create"]]
    assert any(words[:4] == ["impress", "task", "add", f"{name}.impress"] for words in commands)


@pytest.mark.parametrize(
    ("name", "task", "words"),
    [
        ("digits-rotated", "rotated-digits-15", "coefficients at most"),
        ("photos-cifar100", "split-cifar100-3", "head at most"),
    ],
)
def test_it_says_by_how_much_a_task_differs(
    rebuild: ModuleType, name: str, task: str, words: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(ZOO / f"{name}.impress", tmp_path / f"{name}.impress"))
    entry = find_bank(parse_index("zoo", (ZOO / "index.json").read_bytes()), name)
    assert rebuild.differing(entry, folder) == []
    bank = open_bank(folder)
    other = next(one for one in bank.task_names() if one != task)
    export_task(bank, other, tmp_path / "other.safetensors")
    bank.remove_task(task)
    import_tasks(bank, [tmp_path / "other.safetensors"], task)
    (path,) = rebuild.differing(entry, folder)
    assert path == f"tasks/{task}.safetensors"
    assert words in rebuild.describe(name, folder, path)
