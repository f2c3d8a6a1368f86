"""Imports run one way: impress_cli -> impress_learn -> impress_format, and the format never needs torch."""

from __future__ import annotations

import ast
import re
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


def options_spelled(source: str) -> Iterator[str]:
    """Options of a command line in the texts of a source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"(?<![\w-])--[a-z][\w-]*", node.value)


@pytest.mark.parametrize("package", ["impress_format", "impress_learn"])
def test_no_option_of_the_command_line_is_spelled_below_it(package: str) -> None:
    spelled = {
        f"{module.relative_to(ROOT)}: {option}"
        for module in sorted((ROOT / package).rglob("*.py"))
        if module != ROOT / "impress_format" / "errors.py"  # which explains how fields become options
        for option in options_spelled(module.read_text(encoding="utf-8"))
    }
    assert spelled == set()


def test_the_check_sees_options_in_texts_of_any_kind() -> None:
    source = 'f"{name}: give --name"\n"""As `--zoo` has it."""\n"--".join(words)\n"--- a rule"'
    assert sorted(options_spelled(source)) == ["--name", "--zoo"]


def rooms_imported(package: str, source: str) -> Iterator[str]:
    """Rooms of a package, its folders and its files, that a source imports from, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (path.split(".")[1] for path in paths if path.startswith(f"{package}."))


def circles(below: dict[str, set[str]]) -> set[str]:
    """The rooms from which imports lead back to themselves; `below` has for each what it imports from."""
    found = set()
    for start, named in below.items():
        reached, ahead = set(), list(named)
        while ahead:
            if (room := ahead.pop()) not in reached:
                reached.add(room)
                ahead += below.get(room, ())
        if start in reached:
            found.add(start)
    return found


@pytest.mark.parametrize("package", ["impress_cli", "impress_format", "impress_learn"])
def test_imports_between_rooms_lead_downwards_only(package: str) -> None:
    below: dict[str, set[str]] = {}
    for module in sorted((ROOT / package).rglob("*.py")):
        room = module.relative_to(ROOT / package).parts[0].removesuffix(".py")
        named = set(rooms_imported(package, module.read_text(encoding="utf-8")))
        below.setdefault(room, set()).update(named - {room})
    assert len(below) > 5
    assert circles({room: named & set(below) for room, named in below.items()}) == set()


def test_the_check_sees_circles() -> None:
    source = "from impress_learn.streams import load\ndef f():\n    import impress_learn.loaded\nimport torch.nn"
    assert list(rooms_imported("impress_learn", source)) == ["streams", "loaded"]
    assert list(rooms_imported("impress_learn", "from impress_learn import picture_parts")) == ["picture_parts"]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}


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
