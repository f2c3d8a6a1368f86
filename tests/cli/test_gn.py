"""`impress eval --gn`: the task inferred from the images."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import Impress


def test_gn_gives_accuracy_tasks_and_what_was_taken_for_what(impress: Impress, bank: Path) -> None:
    found = impress("eval", bank, "--gn", "--samples", 50, "--groups", 2, "--json").json
    tasks = {task["name"] for task in impress("task", "list", bank, "--json").json["tasks"]}
    masks = impress("bank", "show", bank, "--json").json["masks"]
    assert (found["setting"], found["method"], found["group"], found["images"]) == ("gn", "signature", 50, "test")
    assert tasks <= {row["name"] for row in found["tasks"]}
    assert len(found["tasks"]) == len(tasks) + sum(mask["task"] is not None for mask in masks)
    for row in found["tasks"]:
        assert row["samples"] == 100
        assert sum(row["inferred"].values()) == 2
        assert row["task_accuracy"] == row["inferred"].get(row["task"], 0) / 2
    for key in ("accuracy", "known_accuracy", "class_incremental_accuracy", "task_accuracy", "task_probability"):
        mean = sum(row[key] for row in found["tasks"]) / len(found["tasks"])
        assert found["mean_accuracy" if key == "accuracy" else key] == pytest.approx(mean)


@pytest.mark.parametrize("method", ["auto", "signature", "one-shot", "binary", "gradient", "exhaustive"])
def test_every_method_prints_a_table(impress: Impress, bank: Path, method: str) -> None:
    done = impress("eval", bank, "rotated-digits/60", "--gn", "--method", method, "--samples", 20, "--groups", 2)
    assert done.code == 0, done.err
    assert f"task inferred (GN, {method.replace('auto', 'signature')}) from 20 images at a time" in done.out
    assert "the right task for" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gn", "--gg"), "exclude each other"),
        (("--gn", "--basis"), "leave out --basis"),
        (("--samples", 3), "belong to --gn"),
        (("--method", "binary"), "belong to --gn"),
        (("--gn", "--samples", 0), "--samples 0"),
        (("--gn", "--groups", 0), "--groups 0"),
        (("--gn", "--method", "best"), "one-shot"),
        (("--gn", "no-such-task"), "no task"),
        (("--basis-gn", "--gn"), "exclude each other"),
        (("--basis-gn", "rotated-digits/60"), "leave out names"),
        (("--epochs", 3), "belongs to --basis-gn"),
        (("--basis-gn", "--method", "binary"), "belong to --gn"),
    ],
)
def test_what_does_not_fit_is_wrong_use(impress: Impress, bank: Path, words: tuple[object, ...], message: str) -> None:
    refused = impress("eval", bank, *words)
    assert refused.code == 2
    assert message in refused.err


def test_basis_gn_stands_beside_the_masks(impress: Impress, bank: Path) -> None:
    found = impress("eval", bank, "--basis-gn", "--epochs", 2, "--json").json
    assert (found["setting"], found["method"], found["l1"]) == ("basis-gn", "supervised", 0.005)
    masks = [mask for mask in impress("bank", "show", bank, "--json").json["masks"] if mask["task"]]
    assert [row["dedicated_accuracy"] for row in found["tasks"]] == [mask["accuracy"] for mask in masks]
    assert found["mean_accuracy"] == pytest.approx(sum(row["accuracy"] for row in found["tasks"]) / len(masks))
    unlabelled = impress("eval", bank, *(row["task"] for row in found["tasks"]), "--gn", "--json").json
    assert (found["inferred_accuracy"], found["inference"]) == (unlabelled["mean_accuracy"], unlabelled["method"])
    printed = impress("eval", bank, "--basis-gn", "--epochs", 1).out
    assert "supervised" in printed
    assert "largest coefficient" in printed
