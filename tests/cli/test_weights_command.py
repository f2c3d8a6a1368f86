"""`impress weights convert|add` and `bank create --weights`, as typed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from commandline import Impress
from PIL import Image


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def test_from_a_checkpoint_to_a_task_and_on_another_machine(
    impress: Impress, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(tmp_path / "here"))
    converted = impress(
        "weights", "convert", checkpoint.name, "theirs.safetensors", "--like", "timm:test_resnet",
        "--mean", "0.5,0.5,0.5", "--licence", "mit", "--origin", "https://example.org/theirs", "--json",
    )  # fmt: skip
    identity = converted.json["identity"]
    made = impress(
        "bank", "create", "a.impress", "rotated-digits/0", "--backbone", "timm:test_resnet", "--weights",
        "theirs.safetensors", "--image-size", "32", "--epochs", "1", "--json",
    )  # fmt: skip
    assert made.json["backbone"]["pretrained"] == {
        "source": "file:theirs.safetensors",
        "revision": None,
        "licence": "mit",
        "origin": "https://example.org/theirs",
        "identity": identity,
    }
    assert impress("task", "add", "a.impress", "rotated-digits/15", "--epochs", "1").code == 0
    assert "of file:theirs.safetensors, which is not counted" in impress("stats", "a.impress").out
    assert f"id {identity[:12]}, mit" in impress("bank", "show", "a.impress").out
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(tmp_path / "elsewhere"))
    failed = impress("eval", "a.impress")
    assert failed.code == 1
    assert "from https://example.org/theirs, and give it once: impress weights add FILE.safetensors" in " ".join(
        failed.err.split()
    )
    assert identity in impress("weights", "add", "theirs.safetensors").out
    assert impress("eval", "a.impress").code == 0


@pytest.mark.parametrize("text", ["", "two\nlines"])
def test_a_text_that_no_bank_could_keep_is_refused(impress: Impress, checkpoint: Path, text: str) -> None:
    failed = impress("weights", "convert", checkpoint.name, "out.safetensors", "--origin", text)
    assert failed.code == 2
    assert "--origin" in failed.err
    assert not (checkpoint.parent / "out.safetensors").exists()


@pytest.mark.parametrize("numbers", ["0.5", "a,b,c", "1,2,3,4"])
def test_numbers_that_are_none_are_refused(impress: Impress, checkpoint: Path, numbers: str) -> None:
    failed = impress("weights", "convert", checkpoint.name, "out.safetensors", "--mean", numbers)
    assert failed.code == 2
    assert "expected" in failed.err


def test_a_bank_for_heads_alone_shows_what_they_read(
    impress: Impress, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(tmp_path / "here"))
    impress("weights", "convert", checkpoint.name, "theirs.safetensors", "--like", "timm:test_resnet")
    made = impress(
        "bank", "create", "a.impress", "rotated-digits/0:270:90", "--backbone", "timm:test_resnet", "--weights",
        "theirs.safetensors", "--image-size", "32", "--masks-per-task", "0", "--json",
    )  # fmt: skip
    size = (tmp_path / "a.impress" / "projection.safetensors").stat().st_size
    assert made.json["projection"]["bytes"] == size
    assert made.json["projection"]["tasks"] == ["rotated-digits/0", "rotated-digits/90", "rotated-digits/180"]
    shown = impress("bank", "show", "a.impress")
    assert "made of rotated-digits/0, rotated-digits/90 and 1 more:" in " ".join(shown.out.split())
    assert "mask" not in shown.out
    empty = impress("stats", "a.impress", "--json").json  # nothing to divide by
    assert (empty["amortised_bytes"], empty["savings"], empty["float_head_bytes"] > 0) == (None, None, True)
    assert impress("task", "add", "a.impress", "rotated-digits/15", "--epochs", "1").code == 0
    assert "a last layer each, float32" in impress("stats", "a.impress").out
    assert "float_head" in impress("stats", "a.impress", "--json").json["savings"]


def test_an_image_size_is_tried_and_mirror_images_are_asked_for(
    impress: Impress, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(tmp_path / "here"))
    impress("weights", "convert", checkpoint.name, "theirs.safetensors", "--like", "timm:test_resnet")
    common = ("rotated-digits/0", "--backbone", "timm:test_resnet", "--masks-per-task", "0", "--image-size")
    refused = impress("bank", "create", "a.impress", *common, "large")
    assert refused.code == 2
    assert "'large': expected a number of pixels, or auto" in " ".join(refused.err.replace("│", " ").split())
    assert "give --weights, or a number" in impress("bank", "create", "a.impress", *common, "auto").err
    made = impress("bank", "create", "a.impress", *common, "auto", "--weights", "theirs.safetensors", "--mirror")
    assert made.code == 0
    shown = impress("bank", "show", "a.impress", "--json").json
    side = shown["preprocess"]["size"][0]
    assert f"Takes {side}: twice the time has to gain a point" in " ".join(made.err.split())
    assert shown["preprocess"]["mirror"] is True
    assert "asked for each image with its mirror image" in " ".join(impress("bank", "show", "a.impress").out.split())
    assert impress("task", "add", "a.impress", "rotated-digits/15", "--epochs", "1").code == 0
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "one.png")
    asked = ("infer", "a.impress", "one.png", "--task", "rotated-digits/15", "--json")
    usual, both, one = (impress(*asked, *flag).json["images"] for flag in ((), ("--mirror",), ("--no-mirror",)))
    assert usual == both != one
