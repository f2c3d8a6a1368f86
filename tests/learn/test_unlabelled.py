"""Tasks without labels: masks vote by what the images look like."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_bank import known

from impress_cli.rebuilding import rebuilding_commands
from impress_format import open_bank, verify_bank
from impress_format.errors import BankMismatch, DataError, InvalidReference, TaskExists, UsageError
from impress_format.operations.exchange import export_task, import_tasks
from impress_format.operations.pack import pack_tasks
from impress_format.parts.vote import VOTE
from impress_learn import (
    Discovery,
    Masks,
    MaskTraining,
    Parts,
    TaskTraining,
    add_dataset,
    add_tasks,
    create_bank,
    discover_tasks,
    evaluate,
    load_bank,
    update_task,
)
from impress_learn.jobs import evaluate_gn
from impress_learn.progress import Progress
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference

GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"
UNLABELLED = TaskTraining(unlabelled=True)
TURNED = "rotated-digits/45"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unlabelled") / "a.impress"
    create_bank(path, ["rotated-digits/0:360:30"], masks=Masks(density=0.2), fit=MaskTraining(epochs=12))
    return path


@pytest.fixture
def bank(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "a.impress"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty digits turned by 45 degrees, half of them in folders whose names say nothing."""
    folder = tmp_path_factory.mktemp("photos")
    images = load_task(parse_reference(TURNED), data_dir=None).train.pixels_of(slice(0, 40))
    for number, pixels in enumerate(images):
        place = folder / ("train/b" if number % 2 else ".")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(place / f"{number:02}.png")
    return folder


def test_masks_vote_that_the_images_are_like(bank: Path, photos: Path) -> None:
    said: list[str] = []
    (added,) = add_tasks(bank, [f"folder:{photos}"], fit=UNLABELLED, name="mine", progress=Progress(remark=said.append))
    assert added.task == f"folder:{photos}::unlabelled"
    assert np.isnan([added.accuracy, added.train_accuracy]).all()
    assert (added.flat()["accuracy"], added.flat()["train_accuracy"]) == (None, None)
    assert any("no label is looked at" in one for one in said)
    assert f"{photos}: 40 images, all without labels" in said
    stored = open_bank(bank).read_stored("mine")
    shares = VOTE.of(stored)
    assert shares is not None
    assert set(np.argsort(shares)[-2:].tolist()) == {1, 2}
    assert stored.record.class_names == tuple("0123456789")
    assert load_bank(bank).predict(str(photos / "00.png"), "mine").label in "0123456789"


def test_they_answer_better_than_the_best_mask_chosen_by_all_labels(bank: Path) -> None:
    (added,) = add_tasks(bank, [TURNED], fit=UNLABELLED)
    (controls,) = evaluate(bank, [added.name], wrong_mask=True)
    assert controls.best_mask is not None
    assert added.accuracy > controls.best_mask.accuracy + 0.02


def test_masks_that_are_not_sure_of_their_answers_are_doubted(bank: Path) -> None:
    said: list[str] = []
    (wrong,) = add_tasks(bank, ["permuted-digits/3"], fit=UNLABELLED, progress=Progress(remark=said.append))
    assert wrong.accuracy < 0.3
    assert any("permuted-digits-3: the masks that vote find their answers" in one for one in said)
    said.clear()
    add_tasks(bank, [TURNED], fit=UNLABELLED, progress=Progress(remark=said.append))
    assert not any("find their answers" in one for one in said)


def test_no_label_is_looked_at(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_tasks(bank, [TURNED], fit=UNLABELLED, name="one")
    import impress_learn.tasks.learn as module

    def shuffled(data: object, shots: int | None, seed: int, label_of: object) -> object:
        images = data.train  # type: ignore[attr-defined]
        return images.renumbered([(label + 3) % 10 for label in range(10)])

    monkeypatch.setattr(module, "training_images", shuffled)
    add_tasks(bank, [TURNED], fit=UNLABELLED, name="other")
    one, other = (VOTE.of(open_bank(bank).read_stored(name)) for name in ("one", "other"))
    assert one is not None
    assert other is not None
    assert sorted(one.tolist()) == pytest.approx(sorted(other.tolist()), abs=0.15)


def test_what_is_stored_says_so_in_a_file_in_a_pack_and_in_a_list(bank: Path, photos: Path, tmp_path: Path) -> None:
    add_tasks(bank, [f"folder:{photos}"], fit=UNLABELLED, name="mine")
    export_task(open_bank(bank), "mine", tmp_path / "mine.safetensors")
    pack_tasks(open_bank(bank))
    opened = open_bank(bank)
    record = opened.read_stored("mine").record
    assert (record.accuracy, known(record.fit).unlabelled) == (None, True)
    assert [(one.name, one.accuracy) for one in opened.summarise_tasks()] == [("mine", None)]
    assert verify_bank(bank).ok
    opened.remove_task("mine")
    (again,) = import_tasks(open_bank(bank), [tmp_path / "mine.safetensors"], None)
    assert (again.name, again.accuracy) == ("mine", None)


def test_given_again_it_is_there_and_with_labels_it_is_another(bank: Path) -> None:
    add_tasks(bank, [TURNED], fit=UNLABELLED)
    (again,) = add_tasks(bank, [TURNED], fit=UNLABELLED)
    assert again.seconds == 0
    with pytest.raises(TaskExists):
        add_tasks(bank, [TURNED], fit=TaskTraining(epochs=1))


def test_what_has_no_labels_is_not_measured(bank: Path, photos: Path) -> None:
    add_tasks(bank, [f"folder:{photos}"], fit=UNLABELLED, name="mine")
    for named in (lambda: evaluate(bank, ["mine"]), lambda: evaluate_gn(bank, ["mine"], samples=4)):
        with pytest.raises(DataError, match="mine was made of images without labels"):
            named()
    with pytest.raises(DataError, match="no task whose images have labels"):
        evaluate(bank)
    add_tasks(bank, ["rotated-digits/105"], fit=TaskTraining(epochs=1), name="other")
    said: list[str] = []
    assert [one.name for one in evaluate(bank, progress=Progress(remark=said.append))] == ["other"]
    found = evaluate_gn(bank, samples=4, groups=2, progress=Progress(remark=said.append))
    assert "mine" not in {one.name for one in found}
    assert said.count("mine: made of images without labels: not measured") == 2


def test_masks_and_coefficients_are_not_made_of_it(bank: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no labels, which masks are trained by"):
        create_bank(tmp_path / "b.impress", ["rotated-digits/0", f"folder:{photos}::unlabelled"])
    with pytest.raises(UsageError, match="has no labels: give `unlabelled`"):
        add_tasks(bank, [f"folder:{photos}::unlabelled"])
    add_tasks(bank, [TURNED], fit=TaskTraining(epochs=1), name="learned")
    with pytest.raises(UsageError, match="learned was learned from labels"):
        update_task(bank, "learned", "rotated-digits/50", fit=UNLABELLED)


def test_tasks_are_not_discovered_in_images_without_labels(bank: Path, photos: Path) -> None:
    with pytest.raises(UsageError, match="has no labels, which tasks that are new are learned by"):
        discover_tasks(bank, [f"folder:{photos}::unlabelled"], discovery=Discovery(chunk=8))


def test_a_dataset_gives_labels(bank: Path) -> None:
    with pytest.raises(UsageError, match="a Dataset gives a label with every image"):
        add_dataset(bank, "own", [], fit=UNLABELLED)


def test_a_folder_is_read_again_when_a_vote_is_updated(bank: Path, photos: Path) -> None:
    add_tasks(bank, ["rotated-digits/105"], fit=UNLABELLED, name="mine")
    updated = update_task(bank, "mine", f"folder:{photos}", fit=UNLABELLED)
    assert updated.task == f"folder:{photos}::unlabelled"
    assert np.isnan(updated.accuracy)
    shares = VOTE.of(open_bank(bank).read_stored("mine"))
    assert shares is not None
    assert set(np.argsort(shares)[-2:].tolist()) == {1, 2}


def test_what_makes_it_again_says_that_labels_are_not_looked_at(bank: Path, photos: Path) -> None:
    add_tasks(bank, [TURNED], parts=Parts(vote=True))
    add_tasks(bank, [f"folder:{photos}"], fit=UNLABELLED, name="mine")
    opened = open_bank(bank)
    records = [opened.read_task_record(name) for name in opened.task_names()]
    lines = [line for line in rebuilding_commands(opened, records, "a") if "task add" in line]
    assert [("--vote" in line, "--unlabelled" in line) for line in sorted(lines)] == [(True, True), (True, False)]


def test_a_vote_can_be_updated_without_labels(bank: Path) -> None:
    add_tasks(bank, [TURNED], fit=UNLABELLED, name="mine")
    update_task(bank, "mine", "rotated-digits/105", fit=UNLABELLED)
    shares = VOTE.of(open_bank(bank).read_stored("mine"))
    assert shares is not None
    assert set(np.argsort(shares)[-2:].tolist()) == {3, 4}


@pytest.mark.parametrize(
    ("fit", "parts", "words"),
    [
        (TaskTraining(unlabelled=True, shots=3), Parts(), "`shots` 3"),
        (UNLABELLED, Parts(vote=False), "nothing but a vote can be stored"),
        (UNLABELLED, Parts(residual=800), "stands alone"),
        (UNLABELLED, Parts(bytes=400), "chooses the parts"),
    ],
)
def test_what_labels_are_needed_for_is_refused(bank: Path, fit: TaskTraining, parts: Parts, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        add_tasks(bank, [TURNED], fit=fit, parts=parts)
    assert open_bank(bank).task_names() == []


@pytest.mark.parametrize("option", ["::classes", "::tasks", "::groups={}_*"])
def test_a_folder_without_labels_is_read_in_one_way(bank: Path, photos: Path, option: str) -> None:
    with pytest.raises(InvalidReference, match="expected folder:PATH alone"):
        add_tasks(bank, [f"folder:{photos}{option}"], fit=UNLABELLED)


def test_a_folder_without_an_image_is_refused(bank: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="has no image, in it or below"):
        add_tasks(bank, [f"folder:{tmp_path / 'none'}"], fit=UNLABELLED)
    with pytest.raises(DataError, match="no such folder"):
        add_tasks(bank, [f"folder:{tmp_path / 'nowhere'}"], fit=UNLABELLED)


def test_a_bank_without_task_classifier_or_trained_masks_cannot_say(tmp_path: Path) -> None:
    old = Path(shutil.copytree(GOLDEN_V1, tmp_path / "v1.impress"))
    with pytest.raises(BankMismatch, match="has no task classifier"):
        add_tasks(old, [TURNED], fit=UNLABELLED)
    path = tmp_path / "random.impress"
    create_bank(path, ["rotated-digits/0"], masks=Masks(masks_per_task=0, random_masks=2))
    with pytest.raises(BankMismatch, match="none of its masks was trained"):
        add_tasks(path, [TURNED], fit=UNLABELLED)


def test_masks_of_different_classes_cannot_say(tmp_path: Path) -> None:
    for classes in ("ab", "cd"):
        for name in classes:
            (tmp_path / classes / name).mkdir(parents=True)
            for number in range(6):
                pixels = np.random.default_rng(ord(name) + number).integers(0, 255, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / classes / name / f"{number}.png")
    path = tmp_path / "two.impress"
    create_bank(path, [f"folder:{tmp_path / 'ab'}", f"folder:{tmp_path / 'cd'}"], fit=MaskTraining(epochs=1))
    with pytest.raises(BankMismatch, match="masks tell different classes apart"):
        add_tasks(path, [f"folder:{tmp_path / 'ab'}"], fit=UNLABELLED, name="mine")


def test_random_masks_have_no_vote(tmp_path: Path) -> None:
    path = tmp_path / "mixed.impress"
    masks = Masks(density=0.2, random_masks=1)
    create_bank(path, ["rotated-digits/0", "rotated-digits/90"], masks=masks, fit=MaskTraining(epochs=6))
    add_tasks(path, ["rotated-digits/5"], fit=UNLABELLED)
    shares = VOTE.of(open_bank(path).read_stored("rotated-digits-5"))
    assert shares is not None
    assert shares.argmax() == 0
    assert shares[2] == 0
