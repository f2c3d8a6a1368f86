"""The whole job on real MNIST, through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commandline import Impress

OTHER_ANGLES = "rotated-mnist/15:360:60"


def accuracies(document: dict[str, Any], rows: str) -> list[float]:
    return [row["accuracy"] for row in document[rows]]


def test_a_new_angle_is_learned_from_masks_of_its_neighbours(impress: Impress, mnist_dir: Path) -> None:
    data = ("--data-dir", mnist_dir)
    create = ("bank", "create", "m.impress", "rotated-mnist/0:60:30", "--density", 0.2, "--epochs", 1)
    created = impress(*create, *data, "--json").json
    assert min(accuracies(created, "masks")) > 0.92
    (added,) = impress("task", "add", "m.impress", "rotated-mnist/15", "--epochs", 1, *data, "--json").json["tasks"]
    assert added["accuracy"] > 0.9
    assert added["bytes"] < 1000
    wrong = impress("eval", "m.impress", "--basis", "--wrong-mask", *data, "--json").json["mean_accuracy"]
    assert wrong < added["accuracy"] - 0.1
    stats = impress("stats", "m.impress", "--total-tasks", 1000, "--json").json
    assert stats["savings"]["compressed"] > 15


@pytest.mark.slow
def test_six_other_angles_from_ten_masks(impress: Impress, mnist_dir: Path) -> None:
    """docs/results/alpha.md: at least 94 % with 30 coefficients a task, 95 % with a mask of its own."""
    data = ("--data-dir", mnist_dir)
    create = ("bank", "create", "--density", 0.2, *data, "--json")
    impress(*create, "m.impress", "rotated-mnist/0:360:36")
    added = impress("task", "add", "m.impress", OTHER_ANGLES, *data, "--json").json
    assert all(task["coefficients"] == 30 and task["bytes"] < 1000 for task in added["tasks"])
    assert sum(accuracies(added, "tasks")) / 6 >= 0.94
    dedicated = impress(*create, "d.impress", OTHER_ANGLES).json
    assert sum(accuracies(dedicated, "masks")) / 6 >= 0.95
    assert impress("eval", "m.impress", "--wrong-mask", *data, "--json").json["mean_accuracy"] < 0.5
