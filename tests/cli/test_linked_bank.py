"""A symbolic link to a bank is the bank, for every command; links inside one are refused (tests/format)."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import Impress, contents

from impress_format import open_bank

COMMANDS = (
    "bank show LINK", "bank verify LINK", "task list LINK", "task show LINK rotated-digits-60", "stats LINK",
    "task export LINK rotated-digits-60 out.safetensors", "eval LINK rotated-digits-60",
    "task add LINK rotated-digits/60:360:120 --epochs 5", "bank create LINK rotated-digits/0:360:120 --epochs 8",
)  # fmt: skip
CHANGES = ("task remove LINK rotated-digits-60", "bank pack LINK")


@pytest.fixture
def link(bank: Path) -> Path:
    (bank.parent / "link.impress").symlink_to(bank.name)
    return bank.parent / "link.impress"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_answers_for_the_bank(command: str, impress: Impress, bank: Path, link: Path) -> None:
    before = contents(bank)
    ended = impress(*(link.name if word == "LINK" else word for word in command.split()))
    assert ended.code == 0, ended.err
    assert link.is_symlink()
    assert contents(bank) == before


def test_a_command_changes_the_bank(impress: Impress, bank: Path, link: Path) -> None:
    for command in CHANGES:
        ended = impress(*(link.name if word == "LINK" else word for word in command.split()))
        assert ended.code == 0, ended.err
    assert link.is_symlink()
    opened = open_bank(bank)
    assert opened.task_names() == ["rotated-digits-180", "rotated-digits-300"]
    assert not opened.task_path("rotated-digits-180").exists()  # it is packed


def test_a_link_is_pushed_under_its_own_name(impress: Impress, link: Path) -> None:
    ended = impress("zoo", "push", link.name, "--zoo", "zoo", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["name"] == "link"
    again = impress("zoo", "push", link.name, "--zoo", "zoo", "--json")
    assert (again.code, again.json["changed"]) == (0, False)
