"""A bank of the built-in network answers without torch as it does with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from impress_format import open_bank
from impress_format.parts.table import BY_NAME
from impress_learn import Parts, TaskTraining, add_tasks, create_bank, infer
from impress_learn.face.in_numpy import answering_in_numpy
from impress_learn.face.predict import WithTorch
from impress_learn.identify.candidates import Candidates
from impress_learn.identify.found import find_candidates
from impress_learn.plan.asked import Masks, Network
from impress_learn.running.in_numpy import PARTS
from impress_learn.running.loaded import load_running
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference
from impress_learn.training.config import MaskTraining

QUICK = TaskTraining(epochs=5)
TASKS: dict[str, dict[str, Any]] = {
    "alpha": {},
    "groups": {"granularity": 3},
    "float16": {"alpha_dtype": "float16"},
    "residual": {"residual": 512},
    "two-bits": {"residual": 1024, "residual_bits": 2},
    "alone": {"alpha": False, "residual": 1024},
    "hybrid": {"hybrid": True},
    "vote": {"vote": True},
}


@pytest.fixture(scope="module", params=["binary", "signed", "real"])
def bank(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four masks of one type, one of them random, and a task of each kind that stands on them."""
    path = tmp_path_factory.mktemp(request.param) / "a.impress"
    masks = Masks(mask_type=request.param, random_masks=0 if request.param == "real" else 1)
    create_bank(path, ["rotated-digits/0:120:40"], masks=masks, fit=MaskTraining(epochs=2))
    for number, (name, parts) in enumerate(TASKS.items()):
        add_tasks(path, [f"rotated-digits/{20 + 40 * number}"], fit=QUICK, name=name, parts=Parts(**parts))
    return path


def pixels_of(key: int, count: int = 40) -> np.ndarray[Any, np.dtype[np.uint8]]:
    found: np.ndarray[Any, np.dtype[np.uint8]] = (
        load_task(parse_reference(f"rotated-digits/{key}"), data_dir=None).test.pixels_of(slice(count)).numpy()
    )
    return found


def test_every_part_that_the_built_in_network_can_have_is_laid_over_it() -> None:
    assert set(BY_NAME) - {"head", "norm"} == PARTS  # which stand on pretrained weights, and on norm layers


@pytest.mark.parametrize("name", TASKS)
def test_classes_of_a_given_task_are_those_of_torch(bank: Path, name: str) -> None:
    opened = open_bank(bank)
    in_numpy = answering_in_numpy(opened, None, "auto")
    assert in_numpy is not None
    by_torch = WithTorch(load_running(opened, torch.device("cpu")), None, "auto")
    for ours, theirs in zip(
        in_numpy.classify_as(images := pixels_of(20), name), by_torch.classify_as(images, name), strict=True
    ):
        assert (ours.task, ours.label, ours.index) == (theirs.task, theirs.label, theirs.index)
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-5)


def test_the_task_that_is_found_is_that_of_torch_and_so_is_how_sure_it_is(bank: Path) -> None:
    opened = open_bank(bank)
    found = find_candidates(opened)
    in_numpy = answering_in_numpy(opened, found, "auto")
    assert in_numpy is not None
    loaded = load_running(opened, torch.device("cpu"))
    by_torch = WithTorch(loaded, Candidates(loaded, found), "auto")
    noise = np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28), dtype=np.uint8)
    images = np.concatenate([*(pixels_of(key, 10) for key in range(0, 360, 20)), noise])
    ours, theirs = in_numpy.find_tasks(images), by_torch.find_tasks(images)
    assert [(one.index, one.unknown) for one in ours] == [(one.index, one.unknown) for one in theirs]
    assert any(one.unknown for one in ours)
    assert len({one.index for one in ours}) > 5
    for one, other in zip(ours, theirs, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-3)  # of sums of hundreds of float32
    assert [(one.task, one.label) for one in in_numpy.classify_among(images, ours)] == [
        (one.task, one.label) for one in by_torch.classify_among(images, theirs)
    ]
    common, same = in_numpy.find_common_task([images[:10], images[10:20]]), by_torch.find_common_task([images[:20]])
    assert common is not None
    assert same is not None
    assert (common.index, common.unknown) == (same.index, same.unknown)
    assert in_numpy.find_common_task([]) is None


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    Image.fromarray(pixels_of(20)[0, 0]).save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


@pytest.mark.parametrize("arguments", [["--task", "alpha"], [], ["--one-task"], ["--device", "cpu"]])
def test_the_command_starts_no_torch(bank: Path, seven: Path, arguments: list[str]) -> None:
    code = (
        "import sys; from impress_cli.app import main; sys.argv = ['impress', 'infer', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit: pass\nsys.exit('torch' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, bank, seven, *arguments], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "rotated-digits" in ended.stdout


@pytest.mark.parametrize("method", ["exhaustive", "one-shot"])
def test_other_methods_take_torch(bank: Path, method: Any) -> None:
    opened = open_bank(bank)
    assert answering_in_numpy(opened, find_candidates(opened), method) is None


def test_a_task_without_a_signature_takes_torch_where_it_is_not_given(bank: Path, seven: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(bank, tmp_path / "a.impress"))
    add_tasks(path, ["rotated-digits/355"], fit=QUICK, name="unsigned", parts=Parts(signature=False, vote=False))
    opened = open_bank(path)
    assert answering_in_numpy(opened, find_candidates(opened), "auto") is None
    assert answering_in_numpy(opened, None, "auto") is not None
    assert infer(path, [seven], task="unsigned").answers[0].task == "rotated-digits/355"


def test_another_network_takes_torch(tmp_path: Path) -> None:
    create_bank(
        tmp_path / "a.impress",
        ["rotated-digits/0"],
        network=Network(backbone="resnet-18-nf20"),
        masks=Masks(masks_per_task=0, random_masks=1),
    )
    assert answering_in_numpy(open_bank(tmp_path / "a.impress"), None, "auto") is None
