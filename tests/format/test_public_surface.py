"""What docs/python.md promises: these names, these signatures, and that they come without torch."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import small_bank

import impress_format
from impress_format import Bank, open_bank, verify_bank

DOCS = Path(__file__).parents[2] / "docs" / "python.md"
GOLDEN = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"

SIGNATURES = {
    "missing_masks": "(self) -> 'list[int]'",
    "complete_masks": "(self) -> 'int'",
    "basis_digest": "(self, count: 'int', projected: 'bool' = False) -> 'str'",
    "task_names": "(self) -> 'list[str]'",
    "find_task": "(self, name_or_reference: 'str') -> 'str'",
    "read_mask": "(self, index: 'int') -> 'tuple[MaskRecord, dict[str, MaskArray]]'",
    "read_task": "(self, name: 'str') -> 'tuple[TaskRecord, FloatArray]'",
    "read_task_record": "(self, name: 'str') -> 'TaskRecord'",
    "remove_task": "(self, name_or_reference: 'str') -> 'str'",
}


def test_the_public_names_are_these() -> None:
    assert impress_format.__all__ == ["Bank", "ImpressError", "Verification", "open_bank", "verify_bank"]
    assert all(hasattr(impress_format, name) for name in impress_format.__all__)
    with pytest.raises(AttributeError, match="no attribute 'close_bank'"):
        impress_format.close_bank  # noqa: B018


def test_signatures_are_these() -> None:
    assert str(inspect.signature(open_bank)) == "(path: 'Path | str') -> 'Bank'"
    assert str(inspect.signature(verify_bank)) == "(path: 'Path | str') -> 'Verification'"
    assert {name: str(inspect.signature(getattr(Bank, name))) for name in SIGNATURES} == SIGNATURES
    write = inspect.signature(Bank.write_task)
    assert list(write.parameters) == ["self", "record", "parts", "replace"]
    assert write.parameters["replace"].default is False


def test_every_public_method_is_documented() -> None:
    page = DOCS.read_text()
    for name in (*impress_format.__all__, *SIGNATURES, "write_task"):
        assert name in page, name


def test_what_is_returned_cannot_change_a_bank(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    with pytest.raises(AttributeError):
        bank.path = tmp_path  # type: ignore[misc]
    with pytest.raises(AttributeError):
        bank.manifest.format_version = 2  # type: ignore[misc]
    bank.read_task("one")[1][:] = 0
    bank.read_mask(0)[1]["a.weight"][:] = False
    assert verify_bank(bank.path).ok
    assert bank.read_task("one")[1].any()


def test_the_example_without_torch_runs_and_imports_no_torch() -> None:
    (code,) = (
        each for each in re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL) if "verify" in each
    )
    assert len(code.splitlines()) <= 10
    code = code.replace("build/demo.impress", str(GOLDEN)).replace("rotated-digits-15", "rotated-digits-30")
    code += "import sys; assert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(2, 3)" in done.stdout
