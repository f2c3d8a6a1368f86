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
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "code"}
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
METHODS = {"torch.load", "torch.save", "torch.hub", "torch.jit.load", "torch.package", "numpy.fromfile", "np.fromfile"}


def offences(source: str) -> Iterator[str]:
    """What in `source` could run code out of data, with its line."""
    for node in ast.walk(ast.parse(source)):
        for found in _offences(node):
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


def _is_false(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_unpickles_or_evaluates(path: Path) -> None:
    assert list(offences(path.read_text())) == []


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


@pytest.mark.parametrize("source", ["module.eval()", "import numpy as np\nnp.load('x', allow_pickle=False)"])
def test_the_search_leaves_the_rest_alone(source: str) -> None:
    assert list(offences(source)) == []


def test_all_packages_were_searched() -> None:
    assert {"impress_format", "impress_learn", "impress_cli", "docs"} <= {
        path.relative_to(ROOT).parts[0] for path in SOURCES
    }
