"""`verify` names each cause once, and what is intact is not called damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import small_bank

from impress_format.operations.verify import Problem, Unchecked, verify_bank

MASK = "masks/00001.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (flip_last_byte, "is damaged"),
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(POINTER), "git-LFS pointer"),
        (lambda path: path.write_bytes(b""), "not a safetensors file"),
    ],
    ids=["flipped", "missing", "pointer", "empty"],
)
def test_a_task_over_a_damaged_mask_cannot_be_checked_and_is_not_blamed(
    tmp_path: Path, harm: Callable[[Path], object], words: str
) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    harm(bank.path / MASK)
    outcome = verify_bank(bank.path)
    (problem,) = outcome.problems
    assert problem.file == MASK
    assert words in problem.error
    assert outcome.unchecked == tuple(Unchecked(f"tasks/{name}.safetensors", MASK) for name in ("one", "two"))
    assert not outcome.ok


def test_a_task_that_is_damaged_itself_is_named_beside_a_damaged_mask(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    flip_last_byte(bank.path / MASK)
    flip_last_byte(bank.task_path("two"))
    outcome = verify_bank(bank.path)
    assert [problem.file for problem in outcome.problems] == [MASK, "tasks/two.safetensors"]
    assert outcome.unchecked == (Unchecked("tasks/one.safetensors", MASK),)


def test_a_damaged_mask_that_no_task_weighs_leaves_all_tasks_checked(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    (bank.path / "masks" / "00002.safetensors").unlink()
    outcome = verify_bank(bank.path)
    assert outcome.problems == (Problem("masks/00002.safetensors", "is missing"),)
    assert outcome.unchecked == ()


@pytest.mark.parametrize("file", ["bank.json", "tasks/one.safetensors", "calibration.safetensors"])
def test_a_git_lfs_pointer_is_called_one_wherever_it_stands(tmp_path: Path, file: str) -> None:
    bank = small_bank.make(tmp_path / "a.impress", calibration=True)
    (bank.path / file).write_bytes(POINTER)
    (problem,) = verify_bank(bank.path).problems
    assert problem.file == file
    assert "git lfs pull" in problem.error
