"""What needs no tensors answers without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm")
LIGHT = ("numpy", "msgspec", "safetensors", "zstandard")
"""What reading a bank takes, and telling about the command line does not: half of its time."""


def modules_after(arguments: list[str], cwd: Path, packages: tuple[str, ...] = HEAVY) -> set[str]:
    """Which of these packages `impress ARGUMENTS` has imported when it ends."""
    script = (
        "import sys, io, contextlib\n"
        f"sys.argv = ['impress', *{arguments!r}]\n"
        "from impress_cli.app import main\n"
        "try:\n"
        "    with contextlib.redirect_stdout(io.StringIO()): main()\n"
        "except SystemExit as end:\n"
        "    assert end.code in (0, None, 2), end.code\n"
        f"print([name for name in {packages!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, check=True)
    return set(eval(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["bank", "--help"],
        ["bank", "create", "--help"],
        ["task", "add", "--help"],
        ["eval", "--help"],
        ["streams"],
        ["bank", "show", "a.impress"],
        ["bank", "verify", "a.impress"],
        ["stats", "a.impress"],
        ["report", "a.impress", "a.html"],
        ["task", "list", "a.impress"],
        ["task", "show", "a.impress", "rotated-digits-60"],
        ["task", "remove", "a.impress", "rotated-digits-60"],
        ["task", "add", "a.impress", "no-such-stream/1"],
        ["task", "add", "a.impress", "rotated-digits/1", "--granularity", "0"],
        ["task", "add", "a.impress", "rotated-digits/1", "--holdout", "0.1"],
        ["task", "add", "a.impress", "rotated-digits/1", "--name", ""],
        ["bank", "create", "b.impress", "rotated-digits/0", "--density", "7"],
        ["bank", "extend", "a.impress", "rotated-digits/0", "--lr", "0"],
    ],
    ids=" ".join,
)
def test_torch_is_not_imported(bank: Path, arguments: list[str]) -> None:
    assert modules_after(arguments, bank.parent) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["bank", "create", "--help"], ["streams"]])
def test_telling_about_the_command_line_reads_no_bank(tmp_path: Path, arguments: list[str]) -> None:
    assert modules_after(arguments, tmp_path, LIGHT) == set()


def test_the_check_itself_notices_torch(bank: Path) -> None:
    assert "torch" in modules_after(["eval", "a.impress"], bank.parent)
