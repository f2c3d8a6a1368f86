"""What the tests of the method share: light use of the machine, the LeNet, digits."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from impress_format import open_bank
from impress_format.bank import Bank
from impress_format.records.network import LENET
from impress_learn.jobs import create_bank
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone
from impress_learn.plan.asked import Masks, Network
from impress_learn.streams.images import Images
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference
from impress_learn.training.config import MaskTraining

# Helpers of other test folders, also when only this one is run.
sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("format", "zoo")]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Several threads only wait for each other where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lenet() -> Backbone:
    """LeNet-300-100 of seed 0 for 28x28 digits. It never changes, so all tests may share it."""
    return build_backbone(LENET, init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)


@pytest.fixture(scope="session")
def digits() -> tuple[Images, Images]:
    """Training and test images of the task rotated-digits/0."""
    data = load_task(parse_reference("rotated-digits/0"), data_dir=Path("nowhere"))
    return data.train, data.test


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bank over a small network with weights as if others had trained them, without masks."""
    folder = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setenv("IMPRESS_WEIGHTS", str(folder / "kept"))
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), folder / "weights.safetensors")
        create_bank(
            folder / "a.impress",
            ["rotated-digits/0", "rotated-digits/90"],
            network=Network(backbone="timm:test_resnet", weights=str(folder / "weights.safetensors"), image_size=32),
            masks=Masks(masks_per_task=0),
            fit=MaskTraining(holdout=0.1),
        )
    return folder


@pytest.fixture
def bank_for_heads(pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """A copy of that bank."""
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(pretrained / "kept"))
    shutil.copytree(pretrained / "a.impress", tmp_path / "a.impress")
    return open_bank(tmp_path / "a.impress")
