"""The example in each command's help runs as it stands; what stands first there are the options that matter most."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main
from commandline import run
from PIL import Image

from impress_cli.app import app
from impress_learn.streams.digits import load_digits

ZOO = Path(__file__).parents[2] / "zoo"
ELSEWHERE: Mapping[str, str] = {
    "impress reproduce": "minutes; tests/learn/test_reproduce.py runs it at a smaller scale",
    "impress weights convert": "needs a checkpoint; tests/cli/test_weights_command.py makes one",
    "impress weights add": "likewise",
    "impress zoo push": "asks the Hub; tests/zoo/test_zoo_hub.py has one of its own",
    "impress zoo pull": "its target is there by then; tests/zoo",
}
QUICK = ("bank create", "bank extend", "task add", "task discover", "task update")
"""Those that train are given one epoch."""
LAST = ("task update", "task remove")
"""After them a task is of other data, or gone."""


def leaves(command: Any, words: tuple[str, ...] = ("impress",)) -> Iterator[tuple[str, Any]]:
    """Every command that is no group, by its words."""
    if (below := getattr(command, "commands", None)) is None:
        yield " ".join(words), command
        return
    for name, one in below.items():
        yield from leaves(one, (*words, name))


EXAMPLES = {
    name: re.findall(r"^Example[^:]*: (impress .*)$", command.help or "", flags=re.MULTILINE)
    for name, command in leaves(typer.main.get_command(app))
}


def test_every_command_has_an_example_of_itself() -> None:
    assert {name: len(found) for name, found in EXAMPLES.items()} == dict.fromkeys(EXAMPLES, 1)
    assert [name for name, (text,) in EXAMPLES.items() if not text.startswith(f"{name} ") and text != name] == []


def in_order() -> list[str]:
    """Those that are run here, what makes the bank first."""
    ranks = {"impress bank create": 0, "impress task add": 1}
    ranks |= {f"impress {name}": 3 + place for place, name in enumerate(LAST)}
    return sorted(EXAMPLES.keys() - ELSEWHERE.keys(), key=lambda name: (ranks.get(name, 2), list(EXAMPLES).index(name)))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what examples name: a zoo and an image."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(ZOO, folder / "zoo")
    _, test = load_digits()
    seven = test.pixels_of((test.labels == 7).nonzero()[0])[0, 0]
    Image.fromarray(seven.numpy()).save(folder / "seven.png")
    return folder


def test_the_examples_run_one_after_the_other(stage: Path) -> None:
    for name in in_order():
        words = shlex.split(EXAMPLES[name][0])[1:]
        if name.removeprefix("impress ") in QUICK:
            words += ["--epochs", "1"]
        done = run(*words, cwd=stage, env={"IMPRESS_ZOO": str(stage / "zoo")})
        assert done.code == 0, (name, done.err)


def panels(help_text: str) -> dict[str, list[str]]:
    """Options of a help page by the panel that they stand in."""
    found: dict[str, list[str]] = {}
    for line in help_text.splitlines():
        if line.startswith("╭─ "):
            title = line.strip("╭─╮ ")
            found[title] = []
        elif option := re.match(r"│ (?:\* +)?(--[\w-]+)", line):
            found[title].append(option[1])
    return found


def test_help_groups_options_by_what_they_are_about(tmp_path: Path) -> None:
    add = panels(run("task", "add", "--help", cwd=tmp_path).out)
    assert list(add) == [
        "Arguments",
        "Options",
        "How it is learned",
        "What a task is made of",
        "Several processes, or a cluster",
        "Everywhere",
    ]
    assert add["Options"][:3] == ["--bytes", "--residual", "--shots"]
    assert "--epochs" in add["How it is learned"]
    assert "--granularity" in add["What a task is made of"]
    create = panels(run("bank", "create", "--help", cwd=tmp_path).out)
    assert create["Options"][:3] == ["--backbone", "--weights", "--image-size"]
    assert ["The network" in create, "The masks" in create] == [True, True]
