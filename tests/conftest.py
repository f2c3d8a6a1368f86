"""What all tests share: where real data is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL_DATA = Path(os.environ.get("IMPRESS_TEST_DATA", Path(__file__).parents[1].parent / "shared" / "data"))


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """Folder that holds MNIST as torchvision lays it out."""
    if not (REAL_DATA / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"real MNIST is not in {REAL_DATA} (set IMPRESS_TEST_DATA)")
    return REAL_DATA


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden", action="store_true", help="make tests/golden of the current format version anew"
    )
