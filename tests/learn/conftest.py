"""What the tests of the method share: light use of the machine, the LeNet, digits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone
from impress_learn.network.lenet import LENET
from impress_learn.streams.images import Images
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference

settings.register_profile("learn", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("learn")


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
