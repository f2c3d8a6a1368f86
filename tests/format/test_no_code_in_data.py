"""Nothing here ever runs what a file says: no pickle and no eval, in any package or script of the project."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("impress_format", "impress_learn", "impress_cli", "docs", "zoo")
    for path in (ROOT / folder).rglob("*.py")
)
CONVERTER = ROOT / "impress_learn" / "jobs" / "convert_weights.py"
"""Where a person asks for a pickle to be read, once."""
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "code"}
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
METHODS = {"torch.load", "torch.save", "torch.hub", "torch.jit.load", "torch.package", "numpy.fromfile", "np.fromfile"}


def offences(source: str, *, checkpoints: bool = False) -> Iterator[str]:
    """What in `source` could run code out of data, with its line.

    Args:
        checkpoints: whether it may call torch.load with weights_only=True, which runs none.
    """
    tree = ast.parse(source)
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _reads_weights_only(node))
    harmless = {id(call.func) for call in calls} if checkpoints else set()
    for node in ast.walk(tree):
        for found in _offences(node) if id(node) not in harmless else ():
            yield f"line {getattr(node, 'lineno', 0)}: {found}"


def _offences(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom):
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        if (node.module or "").partition(".")[0] in MODULES or names & METHODS:
            yield f"from {node.module}"
    elif isinstance(node, ast.Attribute):
        if (name := ast.unparse(node)) in METHODS:
            yield name
    elif isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called in CALLS:
            yield called
        arguments = {keyword.arg: keyword.value for keyword in node.keywords}
        if called in {"np.load", "numpy.load"} and not _is_false(arguments.get("allow_pickle")):
            yield f"{called} without allow_pickle=False"
        if "allow_pickle" in arguments and not _is_false(arguments["allow_pickle"]):
            yield f"{called} with allow_pickle"


def _reads_weights_only(call: ast.Call) -> bool:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "weights_only"]
    return ast.unparse(call.func) == "torch.load" and [getattr(value, "value", None) for value in given] == [True]


def _is_false(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_unpickles_or_evaluates(path: Path) -> None:
    assert list(offences(path.read_text(), checkpoints=path == CONVERTER)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, pickle as p",
        "from marshal import loads",
        "import shelve",
        "import yaml",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=True)",
        "from torch import load",
        "import torch\ntorch.save({}, 'x')",
        "load = torch.load",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=flag)",
        "eval('1')",
        "def f():\n    exec('1')",
        "__import__('x')",
    ],
)
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert list(offences(source))


@pytest.mark.parametrize(
    "source",
    ["torch.load('x')", "torch.load('x', weights_only=False)", "torch.load('x', weights_only=flag)", "eval('1')"],
)
def test_the_converter_may_read_weights_alone(source: str) -> None:
    assert list(offences(source, checkpoints=True))
    assert list(offences("torch.load('x', weights_only=True)", checkpoints=True)) == []


@pytest.mark.parametrize("source", ["module.eval()", "import numpy as np\nnp.load('x', allow_pickle=False)"])
def test_the_search_leaves_the_rest_alone(source: str) -> None:
    assert list(offences(source)) == []


def test_all_packages_were_searched() -> None:
    assert {"impress_format", "impress_learn", "impress_cli", "docs"} <= {
        path.relative_to(ROOT).parts[0] for path in SOURCES
    }
