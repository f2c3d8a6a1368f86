"""Split CIFAR-100: the official classes five by five, whichever way the images are kept."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR100

from impress_format.errors import DataError
from impress_learn.streams import cifar100
from impress_learn.streams.cifar100 import CLASS_NAMES
from impress_learn.streams.images import Images
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference, parse_references


def contents(images: Images) -> set[tuple[str, int]]:
    """Digest and label of each image: the order in which they are kept differs."""
    pixels = images.pixels_of(slice(None)).numpy()
    return {
        (hashlib.sha256(one.tobytes()).hexdigest(), int(label))
        for one, label in zip(pixels, images.labels, strict=True)
    }


def test_there_are_a_hundred_classes_in_alphabetical_order() -> None:
    assert len(CLASS_NAMES) == 100
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)
    references = parse_references(["split-cifar100/0:20"])
    assert sum((reference.data_set.class_names or () for reference in references), ()) == CLASS_NAMES


def test_a_task_is_500_training_and_100_test_images_of_each_of_its_classes(cifar100_dir: Path) -> None:
    data = load_task(parse_reference("split-cifar100/19"), data_dir=cifar100_dir)
    assert data.train.labels.bincount().tolist() == [500] * 5
    assert data.test.labels.bincount().tolist() == [100] * 5
    batch, _ = data.train.batch(slice(None))
    assert batch.shape == (2500, 3, 32, 32)
    assert batch.mean().abs() < 0.3  # of a twentieth of the set by which it is normalised
    assert abs(float(batch.std()) - 1) < 0.2


def test_image_folders_give_what_archives_give(cifar100_dir: Path, tmp_path: Path) -> None:
    with tarfile.open(cifar100_dir / "cifar100" / "task-03.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    archives = load_task(parse_reference("split-cifar100/3"), data_dir=cifar100_dir)
    folders = load_task(parse_reference("split-cifar100/3"), data_dir=tmp_path)
    assert contents(folders.train) == contents(archives.train)
    assert contents(folders.test) == contents(archives.test)


@pytest.mark.parametrize("layout", ["cifar100", "", "cifar100/one", "pictures"])
def test_image_folders_are_found(tmp_path: Path, layout: str) -> None:
    for part, shade in (("train", 10), ("test", 20)):
        for name in CLASS_NAMES[15:20]:
            folder = tmp_path / layout / part / name
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), (shade, shade, shade)).save(folder / "a.png")
    data = load_task(parse_reference("split-cifar100/3"), data_dir=tmp_path)
    assert data.train.labels.tolist() == data.test.labels.tolist() == [0, 1, 2, 3, 4]
    assert (int(data.train.pixels_of(slice(None)).max()), int(data.test.pixels_of(slice(None)).min())) == (10, 20)


def test_a_damaged_archive_is_named(cifar100_dir: Path, tmp_path: Path) -> None:
    content = (cifar100_dir / "cifar100" / "task-03.tar.gz").read_bytes()
    (tmp_path / "task-03.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"task-03\.tar\.gz cannot be read"):
        load_task(parse_reference("split-cifar100/3"), data_dir=tmp_path)


def test_an_archive_of_which_nothing_is_unpacked(cifar100_dir: Path, tmp_path: Path) -> None:
    """A member that would lead out of the folder is looked at in memory only."""
    image = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(image)
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "evil.tar", "w") as tar:
        tar.add(image, arcname="../../escaped.png")
        for part in ("train", "test"):
            for name in CLASS_NAMES[:5]:
                tar.add(image, arcname=f"{part}/{name}/a.png")
    data = load_task(parse_reference("split-cifar100/0"), data_dir=tmp_path / "data")
    assert (len(data.train), len(data.test)) == (5, 5)
    assert not list(tmp_path.parent.rglob("escaped.png"))


def torchvision_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images a class in each part, as torchvision keeps them; their digests stand in for the published ones."""
    root = folder / CIFAR100.base_folder
    root.mkdir(parents=True)
    generator = np.random.default_rng(0)
    listed = {}
    for part in ("train", "test"):
        labels = list(range(100)) * 2
        content = {
            "data": generator.integers(0, 256, (200, 3072), dtype=np.uint8),
            "fine_labels": labels,
        }
        (root / part).write_bytes(pickle.dumps(content))
    (root / "meta").write_bytes(pickle.dumps({"fine_label_names": list(CLASS_NAMES)}))
    for name in ("train", "test", "meta"):
        listed[name] = hashlib.md5((root / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR100, "train_list", [["train", listed["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", listed["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": listed["meta"]})


def test_torchvisions_files_are_taken_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision_files(tmp_path, monkeypatch)
    cifar100._torchvision.cache_clear()
    plain = CIFAR100(str(tmp_path), train=True)
    data = load_task(parse_reference("split-cifar100/7"), data_dir=tmp_path)
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4] * 2
    assert torch.equal(data.train.pixels_of(slice(0, 1))[0], torch.from_numpy(plain.data[35]).permute(2, 0, 1))
    cifar100._torchvision.cache_clear()


def test_without_data_or_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(CIFAR100, "download", refuse)
    cifar100._torchvision.cache_clear()
    with pytest.raises(DataError, match=r"CIFAR-100 is not in .* \(OSError: no network\)"):
        load_task(parse_reference("split-cifar100/7"), data_dir=tmp_path)
