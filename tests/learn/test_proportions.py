"""Of an image that is not square the centre is taken, whatever a bank began with; what older banks do is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from impress_format import Bank, open_bank, verify_bank
from impress_format.manifest import seal_manifest
from impress_format.operations.create import write_plan
from impress_learn.jobs import add_tasks, create, create_bank
from impress_learn.jobs.infer import infer
from impress_learn.jobs.upgrade import upgrade_bank
from impress_learn.plan import bank as bank_plan
from impress_learn.plan.asked import Masks, Network
from impress_learn.progress import Progress
from impress_learn.streams.read_image import decode_image
from impress_learn.streams.reference import parse_references
from impress_learn.training.config import MaskTraining, TaskTraining

OLDER = Path(__file__).parents[1] / "golden" / "v2" / "digits.impress"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test."""
    monkeypatch.setenv("IMPRESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def older(tmp_path: Path) -> Bank:
    """A bank of a release that did not crop."""
    bank = open_bank(shutil.copytree(OLDER, tmp_path / "older.impress"))
    assert bank.manifest.preprocess is not None
    assert bank.manifest.preprocess.crop is None
    return bank


def with_margin(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], *, wide: bool) -> Image.Image:
    """The image twice as wide, or as tall, with what is beside it mirrored."""
    side = pixels.shape[0] // 2
    margins = [(0, 0), (side, side)] if wide else [(side, side), (0, 0)]
    return Image.fromarray(np.pad(pixels, margins + [(0, 0)] * (pixels.ndim - 2), mode="symmetric"))


def pets(folder: Path, size: tuple[int, int]) -> str:
    """A task of images of this width and height."""
    for name, shade in (("cat", 60), ("dog", 200)):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", size, shade + number).save(folder / name / f"{number}.png")
    return f"folder:{folder}"


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("first", ["rotated-digits/0", "permuted-mnist/3", "split-cifar100/1", "folder"])
def test_of_a_long_image_the_centre_is_what_a_new_bank_sees(tmp_path: Path, first: str, wide: bool) -> None:
    references = parse_references([first if first != "folder" else pets(tmp_path / "pets", (32, 32))])
    view = bank_plan.choose_view(references, size=None, mode=None, photo_size=32)
    shape = view.size if view.mode == "L" else (*view.size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with_margin(pixels, wide=wide).save(tmp_path / "long.png")
    Image.fromarray(pixels).save(tmp_path / "square.png")
    assert np.array_equal(decode_image(tmp_path / "long.png", view), decode_image(tmp_path / "square.png", view))


@pytest.mark.parametrize("backbone", ["lenet-300-100", "timm:test_resnet"])
def test_of_square_images_a_bank_learns_the_same_with_and_without(
    backbone: str, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a bank made of square images may be told to crop afterwards."""
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(pretrained / "kept"))
    network, masks = Network(backbone=backbone, image_size=32), Masks()
    if backbone.startswith("timm:"):
        network = replace(network, weights=str(pretrained / "weights.safetensors"), adapt=1)
        masks = Masks(masks_per_task=0)

    def make(name: str) -> dict[str, bytes]:
        path = tmp_path / name
        references = ["rotated-digits/0", "rotated-digits/90"]
        create_bank(path, references, network=network, masks=masks, fit=MaskTraining(epochs=1))
        add_tasks(path, ["rotated-digits/30"], fit=TaskTraining(epochs=1))
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.*") if file.is_file()}

    cropping = make("new")
    choose_view = bank_plan.choose_view
    monkeypatch.setattr(
        create, "choose_view", lambda *args, **words: msgspec.structs.replace(choose_view(*args, **words), crop=None)
    )
    squeezing = make("old")
    assert cropping.keys() == squeezing.keys()
    assert [name for name in cropping if cropping[name] != squeezing[name]] == ["bank.json"]
    new, old = (json.loads(files["bank.json"]) for files in (cropping, squeezing))
    assert new["preprocess"].pop("crop") == 1.0
    assert {**new, "digest": None} == {**old, "digest": None}
    upgrade_bank(tmp_path / "old")
    assert (tmp_path / "old" / "bank.json").read_bytes() == cropping["bank.json"]


def test_an_older_bank_squeezes_as_before_and_says_so(older: Bank, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "square.png")
    long = with_margin(pixels, wide=True)
    long.save(tmp_path / "long.png")
    assert older.manifest.preprocess is not None
    squeezed = np.asarray(long.resize((28, 28), Image.Resampling.BILINEAR))
    assert np.array_equal(decode_image(tmp_path / "long.png", older.manifest.preprocess)[0], squeezed)
    told: list[str] = []
    images = [tmp_path / "long.png", tmp_path / "square.png"]
    found = infer(older.path, images, task="rotated-digits-30", progress=Progress(remark=told.append))
    assert list(found.remarks) == told
    (remark,) = told
    assert "1 image squeezed to 28 x 28" in remark
    assert "impress bank upgrade" in remark
    assert infer(older.path, images[1:], task="rotated-digits-30").remarks == ()


def test_an_upgrade_makes_an_older_bank_crop_and_leaves_its_answers(older: Bank, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "square.png")
    with_margin(pixels, wide=False).save(tmp_path / "long.png")
    before = {file: file.read_bytes() for file in older.path.rglob("*.safetensors")}
    square = infer(older.path, [tmp_path / "square.png"], task="rotated-digits-30").answers[0]
    assert upgrade_bank(older.path) == 1
    assert verify_bank(older.path).ok
    assert {file: file.read_bytes() for file in older.path.rglob("*.safetensors")} == before
    images = [tmp_path / "square.png", tmp_path / "long.png"]
    found = infer(older.path, images, task="rotated-digits-30")
    assert found.remarks == ()
    for answer in found.answers:
        assert (answer.task, answer.label) == (square.task, square.label)
        assert answer.probability == pytest.approx(square.probability, abs=1e-6)
    assert upgrade_bank(older.path) == 0


def test_what_was_learned_from_squeezed_images_stays_so(older: Bank, tmp_path: Path) -> None:
    """An upgraded bank would show the task other images than it learned from."""
    task = pets(tmp_path / "pets", (60, 30))
    told: list[str] = []
    progress = Progress(remark=told.append)
    add_tasks(older.path, [task], fit=TaskTraining(epochs=1), progress=progress)
    assert any("8 of 8 training images are not square and are squeezed" in remark for remark in told)
    told.clear()
    assert upgrade_bank(older.path, progress) == 0
    (remark,) = told
    assert task in remark
    assert "anew" in remark
    assert open_bank(older.path).manifest.preprocess == older.manifest.preprocess


def test_square_images_of_a_folder_need_no_remark(older: Bank, tmp_path: Path) -> None:
    told: list[str] = []
    add_tasks(
        older.path,
        [pets(tmp_path / "pets", (30, 30))],
        fit=TaskTraining(epochs=1),
        progress=Progress(remark=told.append),
    )
    assert not [remark for remark in told if "squeezed" in remark]


def test_a_bank_of_an_older_release_is_resumed_as_it_is(tmp_path: Path) -> None:
    words = ["rotated-digits/0", "rotated-digits/90"]
    bank = create_bank(tmp_path / "a.impress", words, fit=MaskTraining(epochs=1))
    assert bank.manifest.preprocess is not None
    squeezing = msgspec.structs.replace(bank.manifest.preprocess, crop=None)
    manifest = msgspec.structs.replace(bank.manifest, preprocess=squeezing)
    bank.manifest_path.write_bytes(seal_manifest(manifest))
    bank.mask_path(1).unlink()
    assert create_bank(bank.path, words, fit=MaskTraining(epochs=1)).manifest.preprocess == squeezing
    assert verify_bank(bank.path).ok
    assert write_plan(bank.path, manifest).manifest.preprocess == squeezing
