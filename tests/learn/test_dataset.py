"""A task from a torch Dataset of one's own: what is learned is what files of these images would teach."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_bank import known
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from impress_format import Bank, open_bank, verify_bank
from impress_format.errors import BankMismatch, DataError, TaskExists, UsageError
from impress_learn import (
    LoadedBank,
    MaskTraining,
    Progress,
    TaskTraining,
    add_dataset,
    add_tasks,
    create_bank,
    evaluate,
    load_bank,
    update_task,
)
from impress_learn.jobs import evaluate_gn
from impress_learn.jobs.add_dataset import OwnData
from impress_learn.parts.table import Parts
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference

GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"
NAMES = tuple("0123456789")
FAST = TaskTraining(epochs=2)


class Digits(Dataset[tuple[Any, int]]):
    """Images of rotated-digits/60, each made what is asked for."""

    def __init__(self, part: str, form: Callable[[Tensor], Any] = lambda pixels: pixels) -> None:
        data = load_task(parse_reference("rotated-digits/60"), data_dir=None)
        images = data.train if part == "train" else data.test
        self.pixels, self.labels = images.pixels_of(slice(None)), images.labels
        self.form = form
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        self.asked.append(index)
        return self.form(self.pixels[index]), int(self.labels[index])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "a.impress"
    create_bank(path, ["rotated-digits/0:360:120"], fit=MaskTraining(epochs=4))
    return path


@pytest.fixture
def bank(made: Path, tmp_path: Path) -> Bank:
    shutil.copytree(made, tmp_path / "a.impress")
    return open_bank(tmp_path / "a.impress")


@pytest.fixture(scope="module")
def loaded(made: Path) -> LoadedBank:
    return load_bank(made)


# What is learned


def test_the_same_images_teach_the_same_as_those_of_a_stream(bank: Bank) -> None:
    """What is drawn is seeded by the reference, so that they are near, not equal."""
    (stream,) = add_tasks(bank.path, ["rotated-digits/60"], fit=TaskTraining(epochs=6), parts=Parts(bytes=1500))
    train, test = Digits("train"), Digits("test")
    own = add_dataset(
        bank.path, "mine", OwnData(train, classes=NAMES, test=test), fit=TaskTraining(epochs=6), parts=Parts(bytes=1500)
    )
    assert (own.task, own.name, own.images) == ("dataset:mine", "mine", "test")
    assert own.facts["coefficients"] == stream.facts["coefficients"]
    assert 0 < own.facts["residual"] < stream.facts["residual"]  # the names of its classes take their room
    assert abs(own.accuracy - stream.accuracy) < 0.05
    assert own.accuracy > 0.7
    record, _ = bank.read_task("mine")
    assert (record.task, record.class_names, known(record.fit).holdout) == ("dataset:mine", NAMES, 0.0)
    assert verify_bank(bank.path).ok
    assert load_bank(bank).predict(Digits("test")[0][0], "mine").label in NAMES


@pytest.mark.parametrize(
    "form",
    [
        lambda pixels: pixels,
        lambda pixels: pixels[0].numpy(),
        lambda pixels: Image.fromarray(pixels[0].numpy()),
        lambda pixels: Image.fromarray(pixels[0].numpy()).convert("RGB"),
    ],
    ids=["tensor", "array", "image", "colours"],
)
def test_in_whichever_form_the_images_come(bank: Bank, form: Callable[[Tensor], Any]) -> None:
    expected = add_dataset(bank.path, "mine", OwnData(Digits("train"), classes=NAMES), fit=FAST)
    stored = bank.read_task("mine")
    bank.remove_task("mine")
    found = add_dataset(bank.path, "mine", OwnData(Digits("train", form), classes=NAMES), fit=FAST)
    assert (found.accuracy, found.bytes) == (expected.accuracy, expected.bytes)
    assert np.array_equal(bank.read_task("mine")[1], stored[1])


def test_normalised_tensors_teach_what_their_pixels_teach(bank: Bank, loaded: LoadedBank) -> None:
    add_dataset(bank.path, "pixels", OwnData(Digits("train"), classes=NAMES), fit=FAST, parts=Parts(signature=False))
    before = bank.read_task("pixels")[1]
    bank.remove_task("pixels")
    add_dataset(
        bank.path,
        "pixels",
        OwnData(Digits("train", loaded.transform), classes=NAMES),
        fit=FAST,
        parts=Parts(signature=False),
    )
    assert np.allclose(bank.read_task("pixels")[1], before, atol=1e-3)


def test_without_a_test_dataset_a_fifth_is_held_out_or_what_is_asked_for(bank: Bank) -> None:
    fifth = add_dataset(bank.path, "fifth", OwnData(Digits("train"), classes=NAMES), fit=FAST)
    tenth = add_dataset(
        bank.path, "tenth", OwnData(Digits("train"), classes=NAMES), fit=TaskTraining(epochs=2, holdout=0.1)
    )
    assert fifth.images == tenth.images == "held-out"
    assert [known(bank.read_task_record(name).fit).holdout for name in ("fifth", "tenth")] == [0.2, 0.1]


def test_each_item_is_read_once(bank: Bank) -> None:
    train, test = Digits("train"), Digits("test")
    add_dataset(bank.path, "mine", OwnData(train, classes=NAMES, test=test), fit=FAST)
    assert train.asked == list(range(len(train)))
    assert test.asked == list(range(len(test)))


def test_classes_are_those_of_the_dataset_where_it_names_them(bank: Bank, tmp_path: Path) -> None:
    """As torchvision has it, and of a part of such a Dataset too; nothing else but the folders' order says them."""
    digits = Digits("train")
    for number in range(120):
        folder = tmp_path / "pets" / ("cat", "dog", "emu")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.pixels[number][0].numpy()).save(folder / f"{number}.png")
    pets = ImageFolder(str(tmp_path / "pets"))
    add_dataset(bank.path, "pets", OwnData(Subset(pets, range(110)), test=pets), fit=FAST)
    assert bank.read_task_record("pets").class_names == ("cat", "dog", "emu")
    loaded = load_bank(bank)
    assert loaded.module("pets").classes == ("cat", "dog", "emu")
    other = [(image, 2 - label) for image, label in pets]
    assert loaded.accuracy("pets", other, classes=["emu", "dog", "cat"]) == loaded.accuracy("pets", pets)


def test_few_images_a_class_bytes_and_a_start_as_with_files(bank: Bank) -> None:
    data = OwnData(Digits("train"), classes=NAMES, test=Digits("test"))
    few = add_dataset(bank.path, "few", data, fit=TaskTraining(shots=5), parts=Parts(vote=False))
    assert known(bank.read_task_record("few").fit).shots == 5
    small = add_dataset(bank.path, "small", OwnData(Digits("train"), classes=NAMES), fit=FAST, parts=Parts(bytes=700))
    assert small.bytes <= 700
    assert small.facts["residual"] > 0
    warm = add_dataset(bank.path, "warm", OwnData(Digits("train"), classes=NAMES), fit=FAST, warm_start="few")
    assert warm.facts["coefficients"] == few.facts["coefficients"]
    plain = add_dataset(bank.path, "plain", OwnData(Digits("train"), classes=NAMES, augment=False), fit=FAST)
    assert plain.facts["coefficients"] == few.facts["coefficients"]


def test_over_pretrained_weights_it_has_a_head(bank_for_heads: Bank) -> None:
    headed = add_dataset(
        bank_for_heads.path, "headed", OwnData(Digits("train"), classes=NAMES), fit=TaskTraining(epochs=5)
    )
    assert headed.facts["head"] > 0
    as_floats = Digits("train", load_bank(bank_for_heads).transform)
    floats = add_dataset(bank_for_heads.path, "floats", OwnData(as_floats, classes=NAMES), fit=TaskTraining(epochs=5))
    assert abs(floats.accuracy - headed.accuracy) < 0.1


def test_features_of_normalised_images_are_never_taken_for_those_of_others(bank_for_heads: Bank) -> None:
    """They are kept by a digest of what there is: values that are alike when rounded are not alike."""
    from impress_learn.features.projected import projected_features
    from impress_learn.streams.images import NormalisedImages

    loaded = load_bank(bank_for_heads)
    view = bank_for_heads.manifest.preprocess
    assert view is not None
    values = torch.rand(4, *bank_for_heads.backbone.input_shape)
    one, other = (NormalisedImages(each, torch.zeros(4).long(), view.mean, view.std) for each in (values, values / 2))
    first, second = (projected_features(loaded.adapted, loaded.projection, images) for images in (one, other))
    assert not torch.equal(first, second)


def test_progress_and_remarks_are_told(bank: Bank) -> None:
    steps, remarks = [0], list[str]()
    totals: list[int] = []

    def step() -> None:
        steps[0] += 1

    uneven = Subset(Digits("train"), [*range(1000)])
    progress = Progress(begin=totals.append, step=step, remark=remarks.append)
    add_dataset(bank.path, "mine", OwnData(uneven, classes=NAMES), fit=FAST, progress=progress)
    assert totals == steps
    assert totals[0] > 0
    deep = [(Image.fromarray((np.eye(28) * 60000).astype(np.uint16)), number % 2) for number in range(40)]
    add_dataset(bank.path, "deep", OwnData(deep, classes=["a", "b"]), fit=FAST, progress=progress)
    assert any("`dataset`: 40 images of more than 8 bits" in remark for remark in remarks)


# Its data again


def test_its_accuracy_is_measured_by_whoever_has_the_images(bank: Bank) -> None:
    added = add_dataset(bank.path, "mine", OwnData(Digits("train"), classes=NAMES, test=Digits("test")), fit=FAST)
    loaded = load_bank(bank)
    test = Digits("test")
    assert round(loaded.accuracy("mine", test), 4) == added.accuracy
    assert round(loaded.accuracy("dataset:mine", Digits("test", loaded.transform)), 4) == added.accuracy
    right = sum(loaded.predict(test[index][0], "mine").index == test[index][1] for index in range(50))
    assert loaded.accuracy("mine", Subset(test, range(50))) == right / 50
    reversed_labels = [(image, 9 - label) for image, label in (test[index] for index in range(50))]
    assert loaded.accuracy("mine", reversed_labels, classes=NAMES[::-1]) == right / 50


def test_accuracy_refuses_images_of_classes_that_the_task_does_not_know(bank: Bank) -> None:
    add_dataset(bank.path, "mine", OwnData(Digits("train"), classes=NAMES), fit=FAST)
    loaded = load_bank(bank)
    image = Digits("test")[0][0]
    with pytest.raises(DataError, match=r"`dataset` has images of ten; mine tells 0, 1, .* apart: give `classes`"):
        loaded.accuracy("mine", [(image, 0), (image, 1)], classes=["0", "ten"])
    with pytest.raises(DataError, match="`dataset`, item 1: label 10 is outside 0 … 9, the numbers of 10 classes"):
        loaded.accuracy("mine", [(image, 0), (image, 10)])


def test_a_command_that_asks_for_its_data_says_that_there_are_none(bank: Bank) -> None:
    add_tasks(bank.path, ["rotated-digits/60"], fit=FAST)
    add_dataset(bank.path, "mine", OwnData(Digits("train"), classes=NAMES), fit=FAST)
    words = (
        r"dataset:mine was learned from a torch Dataset in Python, or came as a packet: its images are not stored. "
        "Measure it there"
    )
    with pytest.raises(DataError, match=words):
        evaluate(bank.path)
    with pytest.raises(DataError, match=words):
        evaluate(bank.path, ["mine"], holdout=0.2)
    with pytest.raises(DataError, match=words):
        evaluate_gn(bank.path, ["mine"], samples=4, groups=2)
    assert [one.name for one in evaluate(bank.path, ["rotated-digits-60"])] == ["rotated-digits-60"]
    assert bank.find_task("dataset:mine") == "mine"
    predictions = load_bank(bank).predict([Digits("test")[index][0] for index in range(20)])
    assert {one.nearest for one in predictions} <= {
        "dataset:mine",
        "rotated-digits/60",
        *(f"rotated-digits/{key}" for key in (0, 120, 240)),
    }


def test_it_may_drift_on_data_that_a_command_finds(bank: Bank) -> None:
    add_dataset(bank.path, "mine", OwnData(Digits("train"), classes=NAMES, test=Digits("test")), fit=FAST)
    updated = update_task(bank.path, "mine", "rotated-digits/65", fit=TaskTraining(epochs=1, lr=0.003))
    assert (updated.name, updated.task) == ("mine", "rotated-digits/65")
    with pytest.raises(UsageError, match=r"dataset:mine: a torch Dataset of your own is learned in Python"):
        update_task(bank.path, "mine", "dataset:mine")


# What does not fit


class Endless(IterableDataset[tuple[Any, int]]):
    def __iter__(self) -> Any:
        yield from ()


IMAGE = np.zeros((28, 28), np.uint8)
TWO = [(IMAGE, 0), (IMAGE, 1)] * 10


@pytest.mark.parametrize(
    ("dataset", "classes", "error", "words"),
    [
        ([], ["a", "b"], UsageError, r"`dataset` is empty: expected \(image, label\) items"),
        (Endless(), ["a", "b"], UsageError, r"`dataset` is an iterable dataset \(Endless\): expected a map-style one"),
        (iter(TWO), ["a", "b"], UsageError, "`dataset` is of type list_iterator: expected a map-style Dataset"),
        (TWO, None, UsageError, "`classes` is not given, and the dataset has no `classes` either"),
        (TWO, ["a"], UsageError, "`classes` has 1 names: expected 2 to"),
        (TWO, ["a", "a"], UsageError, "`classes` names a twice"),
        (TWO, ["a", "b\n"], UsageError, r"`classes`: 'b\\n' cannot be stored"),
        (TWO, "ab", UsageError, "`classes` 'ab': expected a name for each class"),
        (TWO, [f"{n}" for n in range(11)], BankMismatch, "has 11 classes; the bank's network has 10 outputs"),
        (TWO, ["a", "b", "c"], DataError, r"`dataset` has no item of c: expected a label for each of the 3 names"),
        ([*TWO, (IMAGE, 2)], ["a", "b"], DataError, r"`dataset`, item 20: label 2 is outside 0 … 1, the numbers of 2"),
        ([*TWO, (IMAGE, -1)], ["a", "b"], DataError, r"item 20: label -1 is outside 0 … 1"),
        ([*TWO, (IMAGE, "a")], ["a", "b"], DataError, r"item 20: label 'a': expected the number of a class, an int"),
        ([*TWO, (IMAGE, 0.5)], ["a", "b"], DataError, r"item 20: label 0.5: expected the number of a class"),
        ([*TWO, (IMAGE, True)], ["a", "b"], DataError, r"item 20: label True: expected the number of a class"),
        ([*TWO, (IMAGE, torch.tensor([0, 1]))], ["a", "b"], DataError, r"item 20: label tensor\(\[0, 1\]\): expected"),
        ([*TWO, IMAGE], ["a", "b"], DataError, r"item 20: is of type ndarray: expected \(image, label\)"),
        ([*TWO, (IMAGE, 0, 1)], ["a", "b"], DataError, r"item 20: is 3 values: expected \(image, label\)"),
        ([{"image": IMAGE}] * 9, ["a", "b"], DataError, r"item 0: is of type dict: expected \(image, label\)"),
        ([*TWO, (torch.zeros(1, 28, 28), 0)], ["a", "b"], DataError, "item 20: one image is pixels and another is"),
        (
            [(torch.zeros(3, 28, 28), 0)] * 9,
            ["a", "b"],
            DataError,
            r"item 0: a float tensor \(3, 28, 28\) is taken as norm",
        ),
        (
            [(torch.rand(1, 28, 28), n % 2) for n in range(9)],
            ["a", "b"],
            DataError,
            "`dataset`: float images are taken",
        ),
        ([("none.png", 0)] * 9, ["a", "b"], DataError, "item 0: none.png: there is no such file"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_stored(
    bank: Bank, dataset: Any, classes: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        add_dataset(bank.path, "mine", OwnData(dataset, classes=classes), fit=FAST)
    assert bank.task_names() == []


def test_settings_that_cannot_be_meant_are_refused(bank: Bank) -> None:
    digits = Digits("train")
    with pytest.raises(UsageError, match=r"`test` has the images .*, `holdout` 0.1 others: give one of them"):
        add_dataset(bank.path, "mine", OwnData(digits, classes=NAMES, test=digits), fit=TaskTraining(holdout=0.1))
    with pytest.raises(UsageError, match="`epochs` 0"):
        add_dataset(bank.path, "mine", OwnData(digits, classes=NAMES), fit=TaskTraining(epochs=0))
    with pytest.raises(UsageError, match="a/b"):
        add_dataset(bank.path, "a/b", OwnData(digits, classes=NAMES))
    with pytest.raises(BankMismatch, match="has format version 1"):
        add_dataset(GOLDEN_V1, "mine", OwnData(digits, classes=NAMES))
    assert digits.asked == []

    class Named(Digits):
        classes = NAMES

    class NamedOtherwise(Digits):
        classes = NAMES[::-1]

    with pytest.raises(UsageError, match=r"`test` has the classes .*, `dataset` has .*: expected the same, in this"):
        add_dataset(bank.path, "mine", OwnData(Named("train"), test=Subset(NamedOtherwise("test"), range(9))))
    assert bank.task_names() == []


def test_a_task_that_is_there_is_never_taken_for_this_one(bank: Bank) -> None:
    add_dataset(bank.path, "mine", OwnData(Digits("train"), classes=NAMES), fit=FAST)
    before = bank.read_task_record("mine").digest
    with pytest.raises(TaskExists, match=r"has mine already, .*: remove it first"):
        add_dataset(bank.path, "mine", OwnData(Subset(Digits("train"), range(500)), classes=NAMES), fit=FAST)
    assert bank.read_task_record("mine").digest == before


def test_tensors_of_torch_are_a_dataset_too(bank: Bank) -> None:
    """The task is the one that a Dataset of the same images gives."""
    digits = Digits("train")
    tensors = TensorDataset(digits.pixels, digits.labels)
    add_dataset(bank.path, "mine", OwnData(tensors, classes=NAMES), fit=FAST)
    found = bank.task_bytes("mine")
    bank.remove_task("mine")
    add_dataset(bank.path, "mine", OwnData(digits, classes=NAMES), fit=FAST)
    assert bank.task_bytes("mine") == found
