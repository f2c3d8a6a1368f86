"""docs/timm.md: what it says of each module of timm comes out again."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import timm

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "timm_models.py"
PAGE = Path(__file__).parents[2] / "docs" / "timm.md"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("timm_models")


def made_here() -> bool:
    return f"of timm {timm.__version__}," in PAGE.read_text()


needs_its_timm = pytest.mark.skipif(not made_here(), reason="docs/timm.md was made with another release of timm")


@needs_its_timm
def test_the_table_has_every_module_and_the_page_says_what_it_has(script: ModuleType) -> None:
    rows = script.read_table(script.TABLE)
    assert sorted(rows) == sorted(timm.list_modules())
    page = PAGE.read_text()
    assert script.page(list(rows.values())).splitlines()[4:] == page.splitlines()[4:]
    assert all(row.model in page for row in rows.values())


@needs_its_timm
@pytest.mark.parametrize("module", ["resnet", "convnext"])
def test_a_row_comes_out_again(script: ModuleType, module: str) -> None:
    row = script.read_table(script.TABLE)[module]
    assert script.make_row(module, row.model) == row


def test_a_model_that_cannot_be_built_says_why(script: ModuleType) -> None:
    row = script.make_row("none", "no_such_network")
    assert (row.sizes, row.export) == ("", row.onnx)
    assert "no model 'no_such_network'" in row.export


def test_a_process_that_ends_or_hangs_takes_no_other_with_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import time

    assert script.in_process(lambda: os._exit(3)) == "its process ended with status 3"
    monkeypatch.setattr(script, "LIMIT_S", 0.2)
    assert script.in_process(lambda: time.sleep(60)) == "not done after 0.2 s"


@pytest.mark.slow
@needs_its_timm
def test_every_row_comes_out_again(script: ModuleType, tmp_path: Path) -> None:
    """The lines that `impress export` prints are run for a model of every module, at a size it was not made for."""
    table = tmp_path / "timm.csv"
    subprocess.run([sys.executable, SCRIPT, "--table", table], check=True)
    assert script.read_table(table) == script.read_table(script.TABLE)
