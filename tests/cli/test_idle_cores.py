"""After a long training that left cores idle it is said how to use them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from impress_cli import idle_cores as module
from impress_cli.idle_cores import idle_cores
from impress_cli.shared import Compute, DeviceChoice, Engine, Spread


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_it_says_how_many_were_used_and_what_would_be_faster() -> None:
    text = idle_cores(312.4, 1, Spread(), Compute())
    assert text is not None
    assert text.startswith("this took 312 s on 1 of 8 cores: --workers 8 trains")
    assert "--threads 8" in text
    assert "on 6 of 8 cores" in str(idle_cores(90, 2, Spread(workers=3), Compute(device=DeviceChoice.cpu)))


@pytest.mark.parametrize(
    ("seconds", "threads", "spread", "compute"),
    [
        (59, 1, Spread(), Compute()),
        (90, 8, Spread(), Compute()),
        (90, 1, Spread(workers=8), Compute()),
        (90, 1, Spread(engine=Engine.ray), Compute()),
        (90, 1, Spread(), Compute(device=DeviceChoice.cuda)),
    ],
)
def test_nothing_is_said_of_what_was_short_or_used_all(
    seconds: float, threads: int, spread: Spread, compute: Compute
) -> None:
    assert idle_cores(seconds, threads, spread, compute) is None


def test_nothing_is_said_where_a_gpu_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert idle_cores(90, 1, Spread(), Compute()) is None


def test_the_commands_say_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from impress_cli.app import app

    monkeypatch.setattr(module, "_LONG", 0.0)
    bank = str(tmp_path / "a.impress")
    for words in (
        ["bank", "create", bank, "rotated-digits/0", "--epochs", "1"],
        ["bank", "extend", bank, "rotated-digits/90", "--epochs", "1"],
        ["task", "add", bank, "rotated-digits/45", "--epochs", "1"],
    ):
        app(words, standalone_mode=False)
        assert "on 1 of 8 cores" in " ".join(capsys.readouterr().err.split())
