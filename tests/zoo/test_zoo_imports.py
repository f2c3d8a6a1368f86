"""What the modules of the zoo import, and what stays unloaded until it is needed."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import impress_format.zoo

PACKAGE = "impress_format.zoo."
FOLDER = Path(impress_format.zoo.__file__).parent


def imports(module: Path) -> set[str]:
    """Modules of the zoo that this one imports, wherever in it."""
    found = (node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom))
    return {node.module.removeprefix(PACKAGE) for node in found if node.module and node.module.startswith(PACKAGE)}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module.stem: imports(module) for module in FOLDER.glob("*.py")}
    assert graph["sources"]
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_a_zoo_in_a_folder_loads_no_client_of_the_network(zoo: Path) -> None:
    code = (
        "import sys; import impress_format.zoo.push, impress_format.zoo.pull, impress_format.zoo.audit; "
        "from impress_format.zoo.sources import open_source, read_index; read_index(open_source(sys.argv[1])); "
        "print(sorted({'huggingface_hub', 'torch', 'urllib.request', 'ssl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, zoo], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
