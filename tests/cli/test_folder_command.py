"""A person's own images, from folders to answers: the whole job on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commandline import Impress
from PIL import Image

from impress_learn.streams.digits import load_digits

QUICK = ("--epochs", "8")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tasks of two classes each, as image files: `hands/a` to `hands/d`, the digits 0 to 7 written by hand."""
    root = tmp_path_factory.mktemp("pictures")
    train, test = load_digits()
    for part, images in (("train", train), ("test", test)):
        pixels, labels = images.pixels_of(slice(None)).numpy()[:, 0], images.labels.numpy()
        for task, (zero, one) in {"a": (0, 1), "b": (2, 3), "c": (4, 5), "d": (6, 7)}.items():
            for name, label in (("even", zero), ("odd", one)):
                folder = root / "hands" / task / part / name
                folder.mkdir(parents=True)
                for number, image in enumerate(pixels[labels == label][:60]):
                    Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{number:02}.png")
    return root


def test_folders_become_a_bank_and_tasks_and_an_answer_has_the_name_of_its_folder(
    pictures: Path, impress: Impress, tmp_path: Path
) -> None:
    hands = pictures / "hands"
    tasks = [f"folder:{hands / name}" for name in "abcd"]
    created = impress(
        "bank", "create", "a.impress", *tasks[:3], "--image-size", "28", "--image-mode", "L", "--json", *QUICK
    )
    assert created.code == 0, created.err
    assert created.json["preprocess"]["size"] == [28, 28]
    assert created.json["preprocess"]["crop"] == 1.0
    assert created.json["class_names"] == ["even", "odd"]
    assert [mask["task"] for mask in created.json["masks"]] == tasks[:3]

    added = impress("task", "add", "a.impress", tasks[3], "--granularity", "16", "--json", "--epochs", "40")
    assert added.code == 0, added.err
    assert added.json["tasks"][0]["task"] == tasks[3]
    assert added.json["tasks"][0]["accuracy"] > 0.8

    found = impress("eval", "a.impress", "--json")
    assert found.json["tasks"][0]["accuracy"] == pytest.approx(added.json["tasks"][0]["accuracy"], abs=1e-4)

    odd = hands / "d" / "test" / "odd"
    answers = impress("infer", "a.impress", str(odd), "--task", tasks[3], "--json").json["images"]
    assert {answer["label"] for answer in answers} <= {"even", "odd"}
    assert np.mean([answer["label"] == "odd" for answer in answers]) > 0.7
    assert impress("bank", "verify", "a.impress").code == 0


def test_a_folder_of_tasks_is_added_whole(pictures: Path, impress: Impress) -> None:
    hands = pictures / "hands"
    created = impress(
        "bank", "create", "a.impress", f"folder:{hands / 'a'}", "--image-size", "16", "--epochs", "1", "--json"
    )
    assert created.code == 0, created.err
    assert created.json["preprocess"]["mode"] == "RGB"
    added = impress("task", "add", "a.impress", f"folder:{hands}", "--epochs", "1", "--json")
    assert [task["task"].rpartition("/")[2] for task in added.json["tasks"]] == ["a", "b", "c", "d"]
    again = impress("task", "add", "a.impress", f"folder:{hands}", "--epochs", "1")
    assert "4 of 4 tasks are there already" in again.err


def test_what_is_amiss_in_a_folder_is_said_and_the_rest_learned(pictures: Path, impress: Impress) -> None:
    task = pictures / "hands" / "b"
    spoiled = task / "train" / "odd" / "zz.png"
    spoiled.write_bytes(b"no image")
    try:
        created = impress(
            "bank",
            "create",
            "a.impress",
            f"folder:{task}",
            "--image-size",
            "16",
            "--epochs",
            "1",
            "--masks-per-task",
            "1",
        )
    finally:
        spoiled.unlink()
    assert created.code == 0, created.err
    assert "images are left out" in created.err
    assert "zz.png" in created.err


@pytest.mark.parametrize(
    ("reference", "status", "said"),
    [
        ("folder:nowhere", 1, "nowhere: there is no such folder"),
        ("folder:.", 1, "two or more"),
        ("folder:", 2, "expected a path"),
        ("folder/x", 2, "folder:PATH"),
    ],
)
def test_a_folder_that_is_no_task_is_refused(impress: Impress, reference: str, status: int, said: str) -> None:
    refused = impress("bank", "create", "a.impress", reference)
    assert refused.code == status
    assert said in refused.err.replace("\n", " ")


def test_a_task_with_more_classes_than_the_bank_has_is_refused(pictures: Path, impress: Impress) -> None:
    created = impress(
        "bank", "create", "a.impress", f"folder:{pictures / 'hands' / 'a'}", "--image-size", "16", "--epochs", "1"
    )
    assert created.code == 0, created.err
    refused = impress("task", "add", "a.impress", "rotated-digits/30")
    assert refused.code == 2
    assert "rotated-digits/30 has 10 classes; the bank's network has 2 outputs" in refused.err.replace("\n", " ")


@pytest.fixture
def patients(pictures: Path, tmp_path: Path) -> Path:
    """Twenty patients with six images each, in two classes."""
    for name in ("even", "odd"):
        for number, path in enumerate(sorted((pictures / "hands" / "a" / "train" / name).iterdir())):
            target = tmp_path / "patients" / name / f"p{number % 20:02}_{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path / "patients"


def test_groups_are_part_of_the_reference_and_every_later_command_splits_alike(
    patients: Path, impress: Impress
) -> None:
    grouped = f"folder:{patients}::groups={{}}_*"
    common = ("--image-size", "16", "--epochs", "1", "--json")
    created = impress("bank", "create", "a.impress", f"folder:{patients}", "--groups", "{}_*", *common)
    assert created.code == 0, created.err
    assert [mask["task"] for mask in created.json["masks"]] == [grouped]
    assert "20 groups by {}_*, 4 of them to test on" in created.err
    added = impress("task", "add", "a.impress", f"folder:{patients}", "--groups", "{}_*", "--epochs", "1", "--json")
    assert added.code == 0, added.err
    (task,) = added.json["tasks"]
    assert task["task"] == grouped
    for words in ((), ("--basis",)):
        (measured,) = impress("eval", "a.impress", *words, "--json").json["tasks"]
        assert (measured["task"], measured["samples"]) == (grouped, 24)
    (measured,) = impress("eval", "a.impress", grouped, "--json").json["tasks"]
    assert measured["accuracy"] == pytest.approx(task["accuracy"], abs=1e-4)
    updated = impress("task", "update", "a.impress", grouped, grouped, "--epochs", "1", "--json")
    assert updated.code == 0, updated.err
    again = impress("task", "add", "a.impress", grouped, "--epochs", "1", "--name", "again", "--json")
    assert again.code == 0, again.err


def test_a_folder_that_the_masks_have_read_otherwise_is_refused(patients: Path, impress: Impress) -> None:
    """Its test images would be among those that the masks were trained on."""
    common = ("--image-size", "16", "--epochs", "1")
    assert impress("bank", "create", "a.impress", f"folder:{patients}", *common).code == 0
    for command in (("task", "add"), ("bank", "extend"), ("task", "discover")):
        refused = impress(*command, "a.impress", f"folder:{patients}", "--groups", "{}_*", "--epochs", "1")
        assert refused.code == 2
        assert f"mask 0 was made of folder:{patients}; folder:{patients}::groups={{}}_*" in refused.err
        assert "give the same reference and --groups" in refused.err
    added = impress("task", "add", "a.impress", f"folder:{patients}", "--epochs", "1", "--name", "mine")
    assert added.code == 0, added.err
    refused = impress("task", "update", "a.impress", "mine", f"folder:{patients}::groups={{}}_*", "--epochs", "1")
    assert refused.code == 2


def test_a_class_that_cannot_be_stored_is_found_before_any_work(patients: Path, impress: Impress) -> None:
    (patients / "odd").rename(patients / "o\tdd")
    refused = impress("bank", "create", "a.impress", f"folder:{patients}", "--image-size", "16")
    assert refused.code == 1
    assert f"{patients}: the class 'o\\tdd' cannot be stored by its name" in refused.err
    assert not (patients.parent / "a.impress").exists()
