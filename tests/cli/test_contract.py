"""The contract of docs/cli.md: names, flags, JSON keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import CREATE, Impress

ADDED_KEYS = {"task", "name", "coefficients", "bytes", "accuracy", "train_accuracy", "seconds"}


def test_bank_show_has_every_key(impress: Impress, bank: Path) -> None:
    shown = impress("bank", "show", bank, "--json").json
    assert {"bank", "backbone", "masks", "seconds"} <= set(shown)
    assert shown["format_version"] == 2
    assert set(shown["made_with"]) == {"impress", "torch", "timm", "numpy"}
    assert shown["preprocess"] == {
        "mode": "L", "size": [28, 28], "interpolation": "bilinear", "mean": [0.3059], "std": [0.324],
        "crop": 1.0,
    }  # fmt: skip
    assert shown["class_names"] == list("0123456789")
    assert {"arch", "init", "seed", "digest", "weights", "layers", "maskable_share"} <= set(shown["backbone"])
    assert shown["backbone"]["maskable_share"] == 1.0
    assert shown["backbone"]["weights"] == 266_200
    assert shown["backbone"]["layers"] == 3
    assert [mask["index"] for mask in shown["masks"]] == [0, 1, 2]
    for mask in shown["masks"]:
        assert {"index", "kind", "task", "seed", "density", "bytes", "accuracy"} <= set(mask)
        assert mask["bytes"] == (bank / "masks" / f"{mask['index']:05d}.safetensors").stat().st_size
        assert mask["accuracy"] > 0.5


def test_bank_create_prints_the_document_of_show(impress: Impress, bank: Path) -> None:
    again = impress("bank", "create", bank, *CREATE, "--json")
    assert again.code == 0
    assert again.json["masks"] == impress("bank", "show", bank, "--json").json["masks"]


def test_task_add_has_every_key_and_a_file_under_1_kb_for_ten_masks(impress: Impress, bank: Path) -> None:
    extended = impress("bank", "extend", bank, "rotated-digits/0", "--masks-per-task", 0, "--random-masks", 7)
    assert extended.code == 0, extended.err
    (task,) = impress("task", "add", bank, "rotated-digits/7", "--epochs", 2, "--json").json["tasks"]
    assert set(task) >= ADDED_KEYS
    assert task["task"] == "rotated-digits/7"
    assert task["name"] == "rotated-digits-7"
    assert task["coefficients"] == 30
    assert task["bytes"] == (bank / "tasks" / "rotated-digits-7.safetensors").stat().st_size < 1000


def test_eval_has_every_key_and_the_mean_is_the_mean(impress: Impress, bank: Path) -> None:
    result = impress("eval", bank, "--json").json
    assert result["setting"] == "gg"
    assert isinstance(result["method"], str)
    shares = [task["accuracy"] for task in result["tasks"]]
    assert result["mean_accuracy"] == pytest.approx(sum(shares) / len(shares))
    assert all(set(task) >= {"task", "accuracy", "samples"} and task["samples"] == 500 for task in result["tasks"])


def test_eval_gives_the_accuracy_that_task_add_stored(impress: Impress, bank: Path) -> None:
    stored = {task["name"]: task["accuracy"] for task in impress("task", "list", bank, "--json").json["tasks"]}
    found = {task["name"]: task["accuracy"] for task in impress("eval", bank, "--gg", "--json").json["tasks"]}
    assert found == stored


def test_eval_of_the_masks_gives_the_accuracy_that_create_stored(impress: Impress, bank: Path) -> None:
    stored = [mask["accuracy"] for mask in impress("bank", "show", bank, "--json").json["masks"]]
    found = [task["accuracy"] for task in impress("eval", bank, "--basis", "--json").json["tasks"]]
    assert found == stored


def test_a_wrong_mask_is_far_worse_than_the_right_one(impress: Impress, bank: Path) -> None:
    right = impress("eval", bank, "--basis", "--json").json["mean_accuracy"]
    wrong = impress("eval", bank, "--basis", "--wrong-mask", "--json").json
    assert wrong["setting"] == "wrong-mask"
    assert wrong["mean_accuracy"] < right / 2


def test_the_best_mask_stands_beside_the_mean_of_wrong_ones(impress: Impress, bank: Path) -> None:
    found = impress("eval", bank, "--wrong-mask", "--json").json
    for task in found["tasks"]:
        assert set(task["best_mask"]) == {"index", "accuracy"}
        assert task["best_mask"]["accuracy"] > task["accuracy"]
    each = [task["best_mask"]["accuracy"] for task in found["tasks"]]
    assert found["mean_best_mask_accuracy"] == pytest.approx(sum(each) / len(each))
    shown = impress("eval", bank, "--wrong-mask").out
    assert "best mask" in shown


def test_stats_has_every_key_and_counts_bytes_on_disk(impress: Impress, bank: Path) -> None:
    stats = impress("stats", bank, "--json").json
    on_disk = {
        "masks": sum(path.stat().st_size for path in (bank / "masks").iterdir()),
        "tasks": sum(path.stat().st_size for path in (bank / "tasks").iterdir()),
        "manifest": (bank / "bank.json").stat().st_size,
        "backbone": 0,
        "recogniser": (bank / "recogniser.safetensors").stat().st_size,
        "projection": 0,
    }
    assert stats["bytes"] == {**on_disk, "total": sum(on_disk.values())}
    assert stats["weights"], stats["layers"] == (266_200, 3)
    assert stats["masks"] == 3
    assert stats["per_task_bytes"] == on_disk["tasks"] / len(list((bank / "tasks").iterdir()))
    ones = 23_520 + 3_000 + 100
    assert stats["density"] == pytest.approx(ones / 266_200)
    assert stats["supsup"] == {"index16": 2 * ones, "bitmap": 33_275, "compressed": on_disk["masks"] / 3}
    assert stats["full_model_bytes"] == 4 * 266_200
    assert stats["savings"]["full_model"] == pytest.approx(4 * 266_200 / stats["amortised_bytes"])
    assert set(stats["savings"]) == set(stats["break_even_tasks"]) == {"index16", "bitmap", "compressed", "full_model"}
    assert stats["float_head_bytes"] is None


def test_stats_can_look_ahead_to_more_tasks(impress: Impress, bank: Path) -> None:
    now = impress("stats", bank, "--json").json
    later = impress("stats", bank, "--total-tasks", 1000, "--json").json
    total = now["bytes"]["total"] + (1000 - now["tasks_served"]) * now["per_task_bytes"]
    assert later["amortised_bytes"] == pytest.approx(total / 1000)
    assert later["savings"]["compressed"] > now["savings"]["compressed"]


def test_verify_says_ok_and_names_what_is_wrong(impress: Impress, bank: Path) -> None:
    good = impress("bank", "verify", bank, "--json")
    assert (good.code, good.json["ok"], good.json["errors"]) == (0, True, [])
    assert good.json["checked"] == 1 + 1 + 3 + len(list((bank / "tasks").iterdir()))
    mask = bank / "masks" / "00001.safetensors"
    damaged = bytearray(mask.read_bytes())
    damaged[-5] ^= 4
    mask.write_bytes(damaged)
    bad = impress("bank", "verify", bank, "--json")
    assert (bad.code, bad.json["ok"]) == (1, False)
    assert "masks/00001.safetensors" in {error["file"] for error in bad.json["errors"]}


def test_json_is_the_only_thing_on_stdout_and_progress_is_not_on_it(impress: Impress, bank: Path) -> None:
    result = impress("task", "add", bank, "rotated-digits/9", "--epochs", 1, "--json", "--quiet")
    assert result.code == 0
    assert result.out.startswith("{")
    assert result.err == ""


@pytest.mark.parametrize("stream", ["rotated-digits", "permuted-digits", "rotated-mnist", "permuted-mnist"])
def test_streams_lists_every_stream(impress: Impress, stream: str) -> None:
    assert stream in {row["name"] for row in impress("streams", "--json").json["streams"]}


def test_a_task_can_be_named_shown_and_removed_by_name_or_reference(impress: Impress, bank: Path) -> None:
    impress("task", "add", bank, "rotated-digits/9", "--name", "nine", "--epochs", 1)
    shown = impress("task", "show", bank, "nine", "--json").json
    assert len(shown["alpha"]) == 3
    assert len(shown["alpha"][0]) == 3
    assert impress("task", "show", bank, "rotated-digits/9", "--json").json["name"] == "nine"
    assert impress("task", "remove", bank, "rotated-digits/9", "--json").json == {"removed": ["nine"]}
    assert not (bank / "tasks" / "nine.safetensors").exists()


def test_finer_granularity_stores_more_coefficients(impress: Impress, bank: Path) -> None:
    (task,) = impress("task", "add", bank, "rotated-digits/9", "--granularity", 4, "--epochs", 1, "--json").json[
        "tasks"
    ]
    assert task["coefficients"] == 3 * (4 + 4 + 4)
