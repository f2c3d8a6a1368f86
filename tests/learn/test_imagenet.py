"""Split ImageNet: ten classes a task, in the order of their folders' names."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from impress_format.errors import DataError
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference
from impress_learn.streams.view import photo_view

VIEW = photo_view(16, grey=False)


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty classes of one training and one test photo, each of a shade of its own and wider than it is high."""
    monkeypatch.setenv("IMPRESS_CACHE", str(tmp_path / "cache"))
    for part in ("train", "val"):
        for number in range(20):
            folder = tmp_path / "imagenet" / part / f"n{number:08}"
            folder.mkdir(parents=True)
            Image.new("RGB", (60, 40), (10 * number,) * 3).save(folder / "a.JPEG")
    return tmp_path


def test_a_task_has_ten_classes_in_order(imagenet: Path) -> None:
    for key in (0, 1):
        data = load_task(parse_reference(f"split-imagenet/{key}"), data_dir=imagenet, view=VIEW)
        for images in (data.train, data.test):
            assert images.labels.tolist() == list(range(10))
            shades = images.pixels_of(slice(None)).float().mean((1, 2, 3))
            assert shades.tolist() == pytest.approx([10 * (10 * key + label) for label in range(10)], abs=2)


def test_too_few_classes_are_said(imagenet: Path) -> None:
    with pytest.raises(DataError, match=r"has 20 classes: split-imagenet/2 takes those from 20 to 29"):
        load_task(parse_reference("split-imagenet/2"), data_dir=imagenet, view=VIEW)


def test_missing_imagenet_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ImageNet is not in .*imagenet/train"):
        load_task(parse_reference("split-imagenet/0"), data_dir=tmp_path, view=VIEW)
