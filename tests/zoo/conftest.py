"""Zoos to try pulls and pushes on, and servers that misbehave on purpose."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Helpers of other test folders, also when only this one is run.
sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("format", "cli")]

import small_bank
from fake_hub import FakeHub
from flaky_server import FlakyServer

from impress_format.zoo.push import prepare, push


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """A bank of three masks and two tasks."""
    return small_bank.make(tmp_path / "source" / "tiny.impress").path


@pytest.fixture
def zoo(bank: Path, tmp_path: Path) -> Path:
    """A zoo in a folder, with that bank in it."""
    push(prepare(bank, None, title="A tiny bank"), str(tmp_path / "zoo"), replace=False)
    return tmp_path / "zoo"


@pytest.fixture
def server(zoo: Path) -> Iterator[FlakyServer]:
    """That zoo behind http."""
    with FlakyServer(zoo) as running:
        yield running


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with one empty repository, someone/zoo; the cache of huggingface_hub is in a folder of its own."""
    from impress_format.zoo import hub as hub_module

    with FakeHub("someone/zoo") as running:
        running.take_the_place_of_the_hub(tmp_path / "hub-cache", monkeypatch)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setattr(hub_module, "_WAITS_S", (0.01, 0.01, 0.01))
        yield running
