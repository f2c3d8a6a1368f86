"""A bank whose network is asked for each image and its mirror image: the mean answers, wherever anyone asks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from test_export import outside

from impress_format import open_bank
from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.records.manifest import Preprocess
from impress_learn import LoadedBank, load_bank
from impress_learn.features.features import frozen_features
from impress_learn.features.projected import projected_features
from impress_learn.jobs import add_tasks, create_bank, evaluate
from impress_learn.jobs.export import export_weights
from impress_learn.jobs.infer import Answers, infer
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.running.mixed import mixed
from impress_learn.streams.reference import parse_reference
from impress_learn.training.config import MaskTraining, TaskTraining

CPU = torch.device("cpu")
ONE = TaskTraining(epochs=1)
TASKS = ("head", "residual", "alpha")


@pytest.fixture(scope="module")
def bank(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """A bank over pretrained weights with masks, heads and a residual, all of whose answers are mirrored."""
    path = tmp_path_factory.mktemp("mirrored") / "a.impress"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPRESS_WEIGHTS", str(pretrained / "kept"))
        network = Network(
            backbone="timm:test_resnet",
            weights=str(pretrained / "weights.safetensors"),
            image_size=32,
            mirror=True,
        )
        create_bank(path, ["rotated-digits/0:180:90"], network=network, fit=MaskTraining(epochs=1))
        add_tasks(path, ["rotated-digits/30"], parts=Parts(head=8), fit=ONE, name="head")
        add_tasks(path, ["rotated-digits/30"], parts=Parts(head=8, residual=800), fit=ONE, name="residual")
        add_tasks(path, ["rotated-digits/30"], parts=Parts(alpha=True), fit=ONE, name="alpha")
    return open_bank(path)


@pytest.fixture
def loaded(bank: Bank, pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedBank:
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(pretrained / "kept"))
    return load_bank(bank, CPU)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def plain(loaded: LoadedBank, task: str, images: torch.Tensor) -> torch.Tensor:
    """What the network answers to the images as they are."""
    with torch.no_grad():
        return loaded.backbone(loaded.task_weights(task), images)


@pytest.mark.parametrize("task", TASKS)
def test_logits_are_the_mean_of_those_of_an_image_and_of_its_mirror_image(
    loaded: LoadedBank, images: torch.Tensor, task: str
) -> None:
    one, other = plain(loaded, task, images), plain(loaded, task, images.flip(3))
    assert (one - other).abs().max() > 1e-2 * one.abs().max()
    torch.testing.assert_close(loaded.logits(loaded.task_weights(task), images), (one + other) / 2)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_the_accuracy_that_it_was_stored_with(loaded: LoadedBank, task: str) -> None:
    assert loaded.bank.read_task_record(task).accuracy == evaluate(loaded.bank.path, [task])[0].accuracy
    data = loaded.task_data(parse_reference("rotated-digits/30"), data_dir=None).test
    logits = loaded.logits(loaded.task_weights(task), data.batch(slice(None))[0])
    right = int((logits.argmax(1) == data.labels).sum())
    assert loaded.bank.read_task_record(task).accuracy == pytest.approx(right / len(data), abs=1.5 / len(data))


def test_a_batch_of_many_tasks_is_mirrored_too(loaded: LoadedBank, images: torch.Tensor) -> None:
    names = ["head", "alpha", "residual", "head", "alpha"]
    expected = torch.cat(
        [loaded.logits(loaded.task_weights(name), one[None]) for name, one in zip(names, images, strict=True)]
    )
    torch.testing.assert_close(mixed(loaded, images, names), expected, rtol=1e-3, atol=1e-3)


def test_features_and_what_heads_read_of_them_are_means_of_both(loaded: LoadedBank, images: torch.Tensor) -> None:
    as_they_are = replace(loaded.adapted, mirrored=False)
    one, other = frozen_features(as_they_are, images), frozen_features(as_they_are, images.flip(3))
    torch.testing.assert_close(frozen_features(loaded.adapted, images), (one + other) / 2)
    digits = loaded.task_data(parse_reference("rotated-digits/30"), data_dir=None).test
    kept = projected_features(as_they_are, loaded.projection, digits)
    assert not torch.equal(kept, projected_features(loaded.adapted, loaded.projection, digits))
    assert torch.equal(kept, projected_features(as_they_are, loaded.projection, digits))


def test_a_module_answers_as_the_bank_does(loaded: LoadedBank, images: torch.Tensor) -> None:
    for task in TASKS:
        expected = loaded.logits(loaded.task_weights(task), images)
        with torch.no_grad():
            torch.testing.assert_close(loaded.module(task)(images), expected, rtol=1e-3, atol=1e-3)


def test_a_graph_is_mirrored_and_plain_weights_say_how_they_are(
    loaded: LoadedBank, images: torch.Tensor, tmp_path: Path
) -> None:
    path = loaded.bank.path
    written = export_weights(path, "head", tmp_path / "head.safetensors")
    assert written.load.endswith("(net(images) + net(images.flip(3))) / 2")
    with safe_open(tmp_path / "head.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["impress"])["preprocess"]["mirror"] is True
    expected = loaded.logits(loaded.task_weights("head"), images).numpy()
    both = f"{written.load}\nplain = net\nnet = lambda images: (plain(images) + plain(images.flip(3))) / 2"
    np.testing.assert_allclose(outside(both, images.numpy(), tmp_path), expected, rtol=1e-3, atol=1e-3)
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    export_weights(path, "head", tmp_path / "head.onnx", file_format="onnx")
    outputs = ReferenceEvaluator(str(tmp_path / "head.onnx")).run(["logits"], {"images": images.numpy()})
    assert isinstance(outputs, list)
    np.testing.assert_allclose(np.asarray(outputs[0]), expected, rtol=1e-3, atol=1e-3)


def test_who_infers_may_ask_otherwise_than_the_bank_says(loaded: LoadedBank, tmp_path: Path) -> None:
    file = tmp_path / "seven.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(file)

    def share(answers: Answers) -> float:
        return answers.answers[0].probability

    seen = loaded.transform(file)[None]
    likely = loaded.logits(loaded.task_weights("head"), seen).softmax(1).max().item()
    alone = plain(loaded, "head", seen).softmax(1).max().item()
    path = loaded.bank.path
    assert likely != pytest.approx(alone, abs=1e-4)
    assert share(infer(path, [file], task="head")) == pytest.approx(likely, abs=1e-5)
    assert share(infer(path, [file], task="head", mirror=True)) == pytest.approx(likely, abs=1e-5)
    assert share(infer(path, [file], task="head", mirror=False)) == pytest.approx(alone, abs=1e-5)


def test_the_built_in_network_is_mirrored_likewise(tmp_path: Path) -> None:
    """Where NumPy would answer for it, which knows no mirror image."""
    for name, mirror in (("plain", False), ("mirrored", True)):
        path = tmp_path / f"{name}.impress"
        create_bank(path, ["rotated-digits/0"], network=Network(mirror=mirror), fit=MaskTraining(epochs=1))
        add_tasks(path, ["rotated-digits/0"], fit=ONE, name="t")
    file = tmp_path / "seven.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (28, 28), np.uint8)).save(file)
    shares = {
        (name, mirror): infer(tmp_path / f"{name}.impress", [file], task="t", mirror=mirror).answers[0].probability
        for name in ("plain", "mirrored")
        for mirror in (None, False, True)
    }
    assert shares["plain", None] == pytest.approx(shares["plain", False], abs=1e-5)
    assert shares["mirrored", None] == shares["mirrored", True] != shares["mirrored", False]
    assert shares["plain", True] == pytest.approx(shares["mirrored", True], abs=1e-6)


def test_a_bank_says_so_only_where_it_is_so() -> None:
    view = Preprocess(mode="L", size=(8, 8), interpolation="bilinear", mean=(0.5,), std=(0.5,))
    assert b"mirror" not in msgspec.json.encode(view)
    both = msgspec.structs.replace(view, mirror=True)
    assert msgspec.json.decode(msgspec.json.encode(both), type=Preprocess) == both


def test_a_bank_that_was_begun_otherwise_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.impress"
    masks = Masks(masks_per_task=0, random_masks=1)
    create_bank(path, ["rotated-digits/0"], masks=masks)
    with pytest.raises(BankMismatch, match=r"other settings \(it asks for no mirror images\)"):
        create_bank(path, ["rotated-digits/0"], network=Network(mirror=True), masks=masks)
