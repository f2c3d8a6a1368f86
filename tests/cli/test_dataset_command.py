"""A task that was learned from a torch Dataset in Python, on the command line: all but its data are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commandline import Impress

from impress_learn import TaskTraining, add_dataset
from impress_learn.jobs.add_dataset import OwnData


@pytest.fixture
def own(bank: Path) -> Path:
    """The bank with a task of 40 squares and circles."""
    corner = np.add.outer(np.arange(28), np.arange(28))
    dark, bright = (np.where(keep, 200, 0).astype(np.uint8) for keep in (corner < 20, corner > 30))
    items = [(dark + shade, 0) if shade % 2 else (bright + shade, 1) for shade in range(40)]
    add_dataset(bank, "mine", OwnData(items, classes=["upper", "lower"]), fit=TaskTraining(epochs=2))
    return bank


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (
            ("eval", "a.impress"),
            1,
            "dataset:mine was learned from a torch Dataset in Python, or came as a packet: its images are not stored",
        ),
        (("eval", "a.impress", "mine"), 1, "Measure it there"),
        (("eval", "a.impress", "mine", "--gn"), 1, "Measure it there"),
        (("task", "add", "a.impress", "dataset:other"), 2, "impress_learn.add_dataset"),
        (("task", "update", "a.impress", "mine", "dataset:mine"), 2, "impress_learn.add_dataset"),
        (("bank", "extend", "a.impress", "dataset:mine"), 2, "impress_learn.add_dataset"),
    ],
)
def test_a_command_that_needs_its_data_says_so(
    impress: Impress, own: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    ended = impress(*arguments)
    assert (ended.code, ended.out) == (status, "")
    assert words in ended.err
    assert "Traceback" not in ended.err


def test_every_other_command_works(impress: Impress, own: Path) -> None:
    assert impress("eval", "a.impress", "rotated-digits-60").code == 0
    assert impress("bank", "pack", "a.impress").code == 0
    assert impress("bank", "verify", "a.impress").code == 0
    (shown,) = (one for one in impress("task", "list", "a.impress", "--json").json["tasks"] if one["name"] == "mine")
    assert shown["task"] == "dataset:mine"
    assert impress("export", "a.impress", "dataset:mine", "mine.onnx", "--format", "onnx").code == 0
    assert impress("task", "export", "a.impress", "mine", "task.safetensors").code == 0
    assert impress("task", "remove", "a.impress", "mine").code == 0
    assert impress("task", "import", "a.impress", "task.safetensors").code == 0
    assert impress("task", "show", "a.impress", "mine", "--json").json["task"] == "dataset:mine"
