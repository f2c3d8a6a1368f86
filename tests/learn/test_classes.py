"""Classes go by name: whatever a folder has become since, an answer and an accuracy are of the task's own classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from impress_format.bank import open_bank
from impress_format.errors import BankMismatch, DataError, TaskExists, UsageError
from impress_format.manifest import seal_manifest
from impress_format.operations.exchange import export_task, import_tasks
from impress_format.operations.pack import pack_tasks
from impress_learn import load_bank
from impress_learn.jobs import add_tasks, create_bank, evaluate, extend_bank, update_task
from impress_learn.jobs.export import export_weights
from impress_learn.jobs.identify import evaluate_gn
from impress_learn.jobs.infer import infer
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.progress import Progress
from impress_learn.running.accuracy import Accuracy
from impress_learn.running.mixed import mixed
from impress_learn.running.task_cache import cache_tasks
from impress_learn.streams.classes import TaskClasses, match_classes, stored_classes, uneven_remark
from impress_learn.streams.digits import load_digits
from impress_learn.streams.reference import group_references
from impress_learn.training.config import MaskTraining, TaskTraining

CPU = torch.device("cpu")
PETS = {"bear": 1, "bicycle": 4, "bottle": 7}
"""Classes, and the digits whose images they have."""
FIT = TaskTraining(epochs=40)
SIDE = 28


def write_images(folder: Path, digit: int, *, test: bool, count: int = 60, first: int = 0) -> None:
    """Images of one digit."""
    images = load_digits()[test]
    pixels = images.pixels_of(slice(None)).numpy()[:, 0][images.labels.numpy() == digit]
    folder.mkdir(parents=True)
    for number, image in enumerate(pixels[first : first + count]):
        Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{number:03}.png")


def make_folder(root: Path, classes: dict[str, int], *, count: int = 60) -> Path:
    for name, digit in classes.items():
        write_images(root / "train" / name, digit, test=False, count=count)
        write_images(root / "test" / name, digit, test=True)
    return root


def rename(root: Path, before: str, now: str) -> None:
    for part in ("train", "test"):
        (root / part / before).rename(root / part / now)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPRESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def digits_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank whose network has ten outputs, which it calls 0 to 9."""
    path = tmp_path_factory.mktemp("bank") / "a.impress"
    create_bank(path, ["rotated-digits/0", "rotated-digits/90"], fit=MaskTraining(epochs=4))
    return path


@pytest.fixture
def bank(digits_bank: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits_bank, tmp_path / "a.impress"))


@pytest.fixture(scope="module")
def learned(digits_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The bank with a task of three classes, and its folder."""
    root = tmp_path_factory.mktemp("learned")
    path, folder = Path(shutil.copytree(digits_bank, root / "a.impress")), make_folder(root / "pets", PETS)
    add_tasks(path, [f"folder:{folder}"], name="pets", parts=Parts(residual=8000), fit=FIT)
    return path, folder


@pytest.fixture
def pets(learned: tuple[Path, Path]) -> Iterator[tuple[Path, Path]]:
    """The same, the folder as it was when it was learned."""
    path, folder = learned
    before = shutil.copytree(folder, folder.parent / "before")
    yield path, folder
    shutil.rmtree(folder)
    before.rename(folder)


@pytest.fixture
def told() -> tuple[list[str], Progress]:
    """Remarks, and who takes them."""
    remarks: list[str] = []
    return remarks, Progress(remark=remarks.append)


def by_class(result: Accuracy) -> dict[str, float | None]:
    return {one.label: one.accuracy for one in result.classes}


# Evaluation


def test_a_class_more_in_the_folder_moves_no_other(pets: tuple[Path, Path], told: tuple[list[str], Progress]) -> None:
    path, folder = pets
    (before,) = evaluate(path)
    make_folder(folder, {"apple": 0})  # the first in the alphabet: all others are another number now
    (after,) = evaluate(path, progress=told[1])
    assert before.accuracy > 0.8
    assert after == before
    assert any("learned without apple" in remark for remark in told[0])


def test_a_class_with_another_name_is_not_measured(pets: tuple[Path, Path], told: tuple[list[str], Progress]) -> None:
    path, folder = pets
    (before,) = evaluate(path)
    rename(folder, "bear", "zbear")
    (after,) = evaluate(path, progress=told[1])
    expected = by_class(before)
    assert by_class(after) == {"bear": None, "bicycle": expected["bicycle"], "bottle": expected["bottle"]}
    assert after.balanced_accuracy == pytest.approx((expected["bicycle"] + expected["bottle"]) / 2)  # type: ignore[operator]
    assert any("learned without zbear" in remark for remark in told[0])
    assert any("learned with bear" in remark for remark in told[0])


def test_a_folder_of_other_classes_is_refused(pets: tuple[Path, Path]) -> None:
    path, folder = pets
    for name in PETS:
        rename(folder, name, f"z{name}")
    with pytest.raises(DataError, match=r"learned with the classes bear, bicycle, bottle; .* but zbear"):
        evaluate(path)


def test_accuracy_is_told_class_by_class(pets: tuple[Path, Path]) -> None:
    path, folder = pets
    shutil.rmtree(folder / "test" / "bottle")
    write_images(folder / "test" / "bottle", 4, test=True, count=20)  # bicycles
    (result,) = evaluate(path)
    one = by_class(result)
    assert one["bottle"] is not None
    assert one["bottle"] < 0.3
    right = sum(each.images * (each.accuracy or 0) for each in result.classes)
    assert right == pytest.approx(result.accuracy * result.samples)
    assert result.balanced_accuracy == pytest.approx(sum(share or 0 for share in one.values()) / 3)
    assert sum(each.images for each in result.confusion) == pytest.approx(result.samples - right)
    (most, *_) = result.confusion
    assert (most.label, most.answer) == ("bottle", "bicycle")


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((50, 50, 50), None),
        ((100, 100, 40), None),
        ((400, 30, 30), "87.0% of 460 test images are of one"),
        ((50, 50, 12), "only 12 of the test images are of three"),
        ((14, 5, 12), "only 5 of the test images are of two (fewer than 20 of 3 classes)"),
        ((50, 0, 50), None),
        ((50, 0, 0), "all of the test images are of one"),
    ],
)
def test_uneven_classes_are_told(counts: tuple[int, ...], words: str | None) -> None:
    remark = uneven_remark("pets", TaskClasses(3, ("one", "two", "three")), counts, "test images")
    assert (remark is None) if words is None else (remark is not None and words in remark)


def test_masks_are_measured_on_the_classes_they_were_trained_on(
    tmp_path: Path, told: tuple[list[str], Progress]
) -> None:
    folders = [make_folder(tmp_path / "pets", PETS), make_folder(tmp_path / "tools", {"adze": 2, "hammer": 5})]
    path = tmp_path / "b.impress"
    tasks = [f"folder:{folder}" for folder in folders]
    create_bank(path, tasks, fit=MaskTraining(epochs=20), network=Network(image_size=SIDE, image_mode="L"))
    before = evaluate(path, basis=True)
    assert [one.label for one in before[1].classes] == ["adze", "hammer"]
    assert before[0].accuracy > 0.8
    make_folder(folders[0], {"apple": 0})
    make_folder(folders[1], {"axe": 0})
    assert evaluate(path, basis=True, progress=told[1]) == before
    assert sum("learned without" in remark for remark in told[0]) == 2
    for part in ("train", "test"):
        shutil.rmtree(folders[0] / part / "bear")
        shutil.rmtree(folders[1] / part / "axe")
    with pytest.raises(BankMismatch, match="no longer bear, now also apple"):
        create_bank(path, tasks, fit=MaskTraining(epochs=20), network=Network(image_size=SIDE, image_mode="L"))
    with pytest.raises(BankMismatch, match="no longer bear, now also apple"):
        extend_bank(path, tasks[:1], fit=MaskTraining(epochs=20, seed=1))


def test_classes_without_names_are_taken_in_order_or_refused() -> None:
    remarks: list[str] = []
    assert match_classes("a", TaskClasses(3, None), TaskClasses(3, ("x", "y", "z")), remarks.append) is None
    assert "no names of classes" in remarks[0]
    with pytest.raises(DataError, match="learned with 3 classes, which have no names, and its data have 4"):
        match_classes("a", TaskClasses(3, None), TaskClasses(4, tuple("wxyz")), remarks.append)


def test_with_the_task_inferred_a_class_of_another_name_is_wrong(bank: Path, tmp_path: Path) -> None:
    """Both tasks have images of the same two digits: their outputs agree by position, and not by name."""
    same = {"a": ("high", "low"), "b": ("left", "right")}
    folders = [make_folder(tmp_path / task, dict(zip(names, (1, 4), strict=True))) for task, names in same.items()]
    add_tasks(bank, [f"folder:{folder}" for folder in folders], parts=Parts(residual=8000), fit=FIT)
    for result in evaluate_gn(bank, [f"folder:{folder}" for folder in folders], samples=1):
        assert result.known > 0.8
        assert result.task_accuracy < 0.9  # nobody can tell these tasks apart
        assert result.accuracy == result.both


# Learning


def test_a_task_that_is_there_is_not_the_task_of_a_changed_folder(pets: tuple[Path, Path]) -> None:
    path, folder = pets
    (again,) = add_tasks(path, [f"folder:{folder}"], name="pets", parts=Parts(residual=8000), fit=FIT)
    assert again.seconds == 0
    rename(folder, "bear", "zbear")
    with pytest.raises(TaskExists, match=r"no longer bear, now also zbear.*remove it first"):
        add_tasks(path, [f"folder:{folder}"], name="pets", parts=Parts(residual=8000), fit=FIT)


def test_an_update_with_other_classes_is_refused_and_one_with_the_same_goes_on(
    pets: tuple[Path, Path], tmp_path: Path
) -> None:
    path, folder = Path(shutil.copytree(pets[0], tmp_path / "c.impress")), pets[1]
    rename(folder, "bear", "zbear")
    with pytest.raises(UsageError, match="no longer bear, now also zbear"):
        update_task(path, "pets", f"folder:{folder}")
    rename(folder, "zbear", "bear")
    (more,) = [make_folder(tmp_path / "more", {**PETS, "apple": 0})]
    with pytest.raises(UsageError, match=r"has 3 classes, .* has 4 \(now also apple\)"):
        update_task(path, "pets", f"folder:{more}")
    for part in ("train", "test"):
        shutil.rmtree(more / part / "apple")
    assert update_task(path, "pets", f"folder:{more}", fit=TaskTraining(epochs=2)).accuracy > 0.8
    assert open_bank(path).read_task_record("pets").class_names == tuple(PETS)


def test_loss_accuracy_and_answers_are_of_the_tasks_own_classes(bank: Path, tmp_path: Path) -> None:
    """Outputs of classes that a task does not have neither answer nor learn: a mask of ten digits has all ten."""
    folder = make_folder(tmp_path / "two", {"five": 5, "nine": 9}, count=3)
    (added,) = add_tasks(bank, [f"folder:{folder}"], name="two", fit=TaskTraining(shots=3))
    (measured,) = evaluate(bank)
    assert measured.accuracy == pytest.approx(added.accuracy, abs=1e-4)
    assert [one.label for one in measured.classes] == ["five", "nine"]
    answers = infer(bank, [folder / "test"], task="two").answers
    assert {answer.label for answer in answers} <= {"five", "nine"}
    right = [answer.label == Path(answer.path).parent.name for answer in answers]
    assert sum(right) / len(right) == pytest.approx(added.accuracy, abs=1e-4)
    assert added.accuracy > 0.5  # of ten outputs, the two that happen to be asked are not the largest
    assert all(answer.probability >= 0.5 for answer in answers)


def test_an_export_has_the_tasks_own_classes(pets: tuple[Path, Path], tmp_path: Path) -> None:
    path, _ = pets
    file = tmp_path / "pets.safetensors"
    exported = export_weights(path, "pets", file)
    with safe_open(file, framework="pt") as opened:
        said = json.loads(opened.metadata()["impress"])
    assert (said["classes"], said["class_names"]) == (3, list(PETS))
    there: dict[str, torch.nn.Module] = {}
    exec(exported.load, there)
    loaded = load_bank(open_bank(path), CPU)
    images = torch.randn(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    expected = loaded.logits(loaded.task_weights("pets"), images, 3)
    with torch.no_grad():
        torch.testing.assert_close(there["net"](images), expected)
    assert expected.shape == (5, 3)


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_of_several_tasks_has_no_logit_of_a_class_that_a_task_lacks(
    pets: tuple[Path, Path], tmp_path: Path, packed: bool
) -> None:
    path = Path(shutil.copytree(pets[0], tmp_path / "d.impress"))
    add_tasks(path, ["rotated-digits/20"], name="ten", fit=TaskTraining(epochs=1))
    if packed:
        pack_tasks(open_bank(path))
    loaded = load_bank(open_bank(path), CPU)
    images = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for kept in (None, cache_tasks(loaded.bank)):
        logits = mixed(loaded, images, ["pets", "ten"], kept)
        assert logits[0].isfinite().tolist() == [True] * 3 + [False] * 7
        assert logits[1].isfinite().all()


# Names


def test_names_are_stored_and_no_folder_is_asked_for_them(pets: tuple[Path, Path], tmp_path: Path) -> None:
    path, folder = pets
    one = shutil.copy(next((folder / "test" / "bottle").iterdir()), tmp_path / "one.png")
    before = infer(path, [one], task="pets").answers
    make_folder(folder, {"apple": 0})
    assert infer(path, [one], task="pets").answers == before
    folder.rename(folder.parent / "away")
    assert infer(path, [one], task="pets").answers == before
    (folder.parent / "away").rename(folder)


def test_names_that_a_record_has_no_room_for_are_stored_all_the_same(tmp_path: Path) -> None:
    """20 names of 250 bytes each."""
    many = {f"{number:02} {'x' * 247}": number % 10 for number in range(20)}
    folder = make_folder(tmp_path / "many", many, count=4)
    others = make_folder(tmp_path / "others", {f"{number:02}": number % 10 for number in range(20)}, count=4)
    path = tmp_path / "many.impress"
    create_bank(
        path,
        [f"folder:{others}"],
        masks=Masks(masks_per_task=0, random_masks=1),
        network=Network(image_size=SIDE, image_mode="L"),
        fit=MaskTraining(epochs=1),
    )
    (added,) = add_tasks(path, [f"folder:{folder}"], name="many", fit=TaskTraining(epochs=1))
    assert added.bytes < 5000
    one = shutil.copy(next((folder / "test").rglob("*.png")), tmp_path / "one.png")
    shutil.rmtree(folder)
    (answer,) = infer(path, [one], task="many").answers
    assert answer.label in many
    assert stored_classes(open_bank(path), f"folder:{folder}", open_bank(path).read_task_record("many")).names == (
        tuple(many)
    )


def test_the_names_of_a_bank_are_not_those_of_a_stream(tmp_path: Path) -> None:
    """A bank of a folder calls its classes as the folder did; digits over it are called digits."""
    folder = make_folder(tmp_path / "ten", {f"class {number}": number for number in range(10)}, count=6)
    path = tmp_path / "ten.impress"
    create_bank(
        path,
        [f"folder:{folder}"],
        masks=Masks(masks_per_task=0, random_masks=1),
        network=Network(image_size=SIDE, image_mode="L"),
        fit=MaskTraining(epochs=1),
    )
    assert open_bank(path).manifest.class_names == tuple(f"class {number}" for number in range(10))
    add_tasks(path, ["rotated-digits/0"], fit=TaskTraining(epochs=1))
    add_tasks(path, [f"folder:{folder}"], name="own", fit=TaskTraining(epochs=1))
    one = next((folder / "test").rglob("*.png"))
    (digit,) = infer(path, [one], task="rotated-digits/0").answers
    (own,) = infer(path, [one], task="own").answers
    assert digit.label in "0123456789"
    assert own.label.startswith("class ")
    assert open_bank(path).read_task_record("own").class_names == open_bank(path).manifest.class_names
    assert [one.label for one in evaluate(path)[0].classes] == [f"class {number}" for number in range(10)]


def test_a_bank_of_version_1_takes_no_task_whose_classes_it_cannot_tell(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"
    path = Path(shutil.copytree(golden, tmp_path / "v1.impress"))
    folder = make_folder(tmp_path / "pets", PETS)
    with pytest.raises(BankMismatch, match="cannot say that"):
        add_tasks(path, [f"folder:{folder}"], fit=TaskTraining(epochs=1))


# What travels, and what older releases left


def test_a_task_keeps_its_names_in_a_bank_that_calls_its_own_otherwise(tmp_path: Path) -> None:
    folders = [make_folder(tmp_path / "cats", {"cat": 1, "dog": 4}, count=6)]
    folders.append(make_folder(tmp_path / "horses", {"horse": 1, "zebra": 4}, count=6))
    paths = [tmp_path / "one.impress", tmp_path / "two.impress"]
    for path, folder in zip(paths, folders, strict=True):
        create_bank(
            path,
            [f"folder:{folder}"],
            masks=Masks(masks_per_task=0, random_masks=2),
            network=Network(image_size=SIDE, image_mode="L"),
        )
    add_tasks(paths[0], [f"folder:{folders[0]}"], name="mine", fit=TaskTraining(epochs=1), parts=Parts(signature=False))
    export_task(open_bank(paths[0]), "mine", tmp_path / "mine.safetensors")
    import_tasks(open_bank(paths[1]), [tmp_path / "mine.safetensors"])
    one = next((folders[0] / "test" / "cat").iterdir())
    (there,), (here,) = (infer(path, [one], task="mine").answers for path in paths)
    assert here.label == there.label
    assert here.label in ("cat", "dog")


def test_masks_of_a_bank_that_does_not_name_their_classes_are_measured_in_order(
    tmp_path: Path, told: tuple[list[str], Progress]
) -> None:
    """As older releases made it: of tasks with classes of their own, nothing said which."""
    folders = [make_folder(tmp_path / "pets", PETS), make_folder(tmp_path / "tools", {"adze": 2, "hammer": 5})]
    path, tasks = tmp_path / "b.impress", [f"folder:{folder}" for folder in folders]
    bank = create_bank(path, tasks, fit=MaskTraining(epochs=20), network=Network(image_size=SIDE, image_mode="L"))
    expected = [one.accuracy for one in evaluate(path, basis=True)]
    bank.manifest_path.write_bytes(seal_manifest(msgspec.structs.replace(bank.manifest, mask_classes=msgspec.UNSET)))
    found = [one.accuracy for one in evaluate(path, basis=True, progress=told[1])]
    assert found[0] == expected[0]
    assert found[1] <= expected[1]  # all three outputs answer
    assert sum("no names of classes" in remark for remark in told[0]) == 2
    create_bank(path, tasks, fit=MaskTraining(epochs=20), network=Network(image_size=SIDE, image_mode="L"))
    extended = extend_bank(path, tasks[:1], fit=MaskTraining(epochs=1, seed=1))
    assert extended.manifest.classes_of_mask(tasks[0]) == tuple(PETS)


@pytest.mark.parametrize("written", ["link", "absolute", "inside"])
def test_a_folder_is_known_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, digit in PETS.items():
        write_images(tmp_path / "pets" / name, digit, test=False, count=12)
    create_bank(
        "a.impress", ["folder:pets"], fit=MaskTraining(epochs=1), network=Network(image_size=SIDE, image_mode="L")
    )
    (tmp_path / "link").symlink_to("pets")
    other = {"link": "link", "absolute": str(tmp_path / "pets"), "inside": "pets/../pets"}[written]
    with pytest.raises(UsageError, match="reads the same folder otherwise"):
        add_tasks("a.impress", group_references([f"folder:{other}"], "{}.*"), fit=TaskTraining(epochs=1))
    add_tasks("a.impress", [f"folder:{other}"], fit=TaskTraining(epochs=1))


def test_nothing_is_held_out_that_the_task_before_has_learned_from(bank: Path) -> None:
    add_tasks(bank, ["rotated-digits/30"], name="all", fit=TaskTraining(epochs=1))
    random = bank.parent / "random.impress"
    create_bank(random, ["rotated-digits/0"], masks=Masks(masks_per_task=0, random_masks=2))
    add_tasks(random, ["rotated-digits/30"], name="all", fit=TaskTraining(epochs=1))
    with pytest.raises(UsageError, match="was trained on all training images"):
        add_tasks(random, ["rotated-digits/40"], warm_start="all", fit=TaskTraining(epochs=1, holdout=0.2))
