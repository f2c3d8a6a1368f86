"""Imports run one way: impress_cli -> impress_learn -> impress_format, and the format never needs torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "impress_format": {"impress_learn", "impress_cli", "torch", "torchvision", "timm"},
    "impress_learn": {"impress_cli"},
}


def imported(source: str) -> Iterator[str]:
    """Top-level names of everything a source imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_module_imports_what_stands_above_it(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    wrong = {
        f"{module.relative_to(ROOT)} imports {name}"
        for module in modules
        for name in imported(module.read_text(encoding="utf-8"))
        if name in FORBIDDEN[package]
    }
    assert wrong == set()


def test_the_check_sees_imports_inside_functions() -> None:
    assert list(imported("def f():\n    from torch.nn import Linear\n    import timm.models")) == ["torch", "timm"]


def test_importing_the_whole_format_package_loads_nothing_above_it() -> None:
    names = [
        ".".join(module.relative_to(ROOT).with_suffix("").parts)
        for module in (ROOT / "impress_format").rglob("[!_]*.py")
    ]
    script = f"import sys, {', '.join(names)}; print(sorted({FORBIDDEN['impress_format']!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
