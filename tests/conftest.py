"""What all tests share: where real data is, and how hypothesis tries; nothing depends on how fast a machine is."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "impress",
    deadline=None,
    derandomize=True,
    # A busy machine is no fault of a test; a fixture that all examples share is made for it.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("impress")

for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):  # read when huggingface_hub is imported
    os.environ.setdefault(name, "600")

REAL_DATA = Path(os.environ.get("IMPRESS_TEST_DATA", Path(__file__).parents[1].parent / "shared" / "data"))


LONG = {"test_kills.py", "test_disk.py", "test_many_at_once.py", "test_output.py", "test_errors.py"}
"""Files that take more than half a minute."""


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """Folder that holds MNIST as torchvision lays it out."""
    if not (REAL_DATA / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"real MNIST is not in {REAL_DATA} (set IMPRESS_TEST_DATA)")
    return REAL_DATA


@pytest.fixture(scope="session")
def cifar100_dir() -> Path:
    """Folder that holds CIFAR-100 as archives of image folders."""
    if not (REAL_DATA / "cifar100" / "task-19.tar.gz").exists():
        pytest.skip(f"real CIFAR-100 is not in {REAL_DATA} (set IMPRESS_TEST_DATA)")
    return REAL_DATA


@pytest.fixture(scope="session")
def reader() -> ModuleType:
    """docs/read_bank.py, which knows nothing of this project's packages."""
    source = Path(__file__).parents[1] / "docs" / "read_bank.py"
    assert "impress_" not in re.sub(r'""".*?"""', "", source.read_text(), count=1, flags=re.DOTALL)
    return _module_at(source)


@pytest.fixture(scope="session")
def golden_maker() -> ModuleType:
    """tests/golden/make.py, which made the banks of 0.1.0 and says what is in them."""
    return _module_at(Path(__file__).parent / "golden" / "make.py")


@pytest.fixture(scope="session")
def rebuild() -> ModuleType:
    """zoo/rebuild.py, which makes banks of the zoo by the commands of their cards."""
    return _module_at(Path(__file__).parents[1] / "zoo" / "rebuild.py")


def _module_at(path: Path) -> ModuleType:
    """A script that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images are kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPRESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no process is left with one while the others have nothing to do."""
    items.sort(key=lambda item: item.path.name not in LONG)
