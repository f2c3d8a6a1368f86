"""docs/tour.ipynb: a notebook without outputs that uses public names alone, and runs from top to bottom."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

import impress_learn

TOUR = Path(__file__).parents[2] / "docs" / "tour.ipynb"


def cells() -> list[nbformat.NotebookNode]:
    found: list[nbformat.NotebookNode] = nbformat.read(TOUR, 4).cells
    return found


def test_it_is_valid_and_holds_no_outputs() -> None:
    nbformat.validate(nbformat.read(TOUR, 4))
    for cell in cells():
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_it_uses_public_names_alone() -> None:
    source = "\n".join(cell.source for cell in cells() if cell.cell_type == "code")
    compile(source, "tour.ipynb", "exec")
    used = set(re.findall(r"\bil\.([A-Za-z]\w*)", source))
    assert used - set(impress_learn.__all__) == set()
    assert {"create_bank", "add_tasks", "evaluate", "load_bank", "add_dataset"} <= used


class ThisPython(KernelSpecManager):
    """A kernel of the interpreter that runs the tests, whatever is installed for the user."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, language="python", display_name=kernel_name)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = nbformat.read(TOUR, 4)
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    client = NotebookClient(notebook, km=manager, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    own, best, wrong = zip(
        *re.findall(
            r"^rotated-digits-\d+: ([\d.]+)%; best mask ([\d.]+)%; masks of other tasks ([\d.]+)%", printed, re.M
        ),
        strict=True,
    )
    assert len(own) == 3
    assert sum(map(float, own)) > sum(map(float, best)) > sum(map(float, wrong))
    (smaller,) = re.findall(r"^rotated-digits-125: 30 coefficients, \d+ bytes, ([\d.]+)%$", printed, re.M)
    ((size, larger),) = re.findall(r"^larger: (\d+) bytes, ([\d.]+)%$", printed, re.M)
    assert int(size) <= 800
    assert float(larger) > float(smaller)
    assert any("image/png" in output.get("data", {}) for output in outputs)
