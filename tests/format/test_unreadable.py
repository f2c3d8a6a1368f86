"""What may not be read is an error with its path, never an empty list."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_bank

from impress_format.bank import Bank, open_bank
from impress_format.errors import ImpressError, StorageError
from impress_format.operations.create import check_can_create
from impress_format.operations.stats import measure_storage
from impress_format.operations.verify import verify_bank
from impress_format.zoo.entry import bank_files

NOBODY = 65534


@pytest.fixture
def bank() -> Iterator[Bank]:
    """A bank that this test's user owns and that no privilege opens: modes do not bind root."""
    folder = Path(tempfile.mkdtemp(prefix="impress-test-"))
    was = os.geteuid()
    made = small_bank.make(folder / "a.impress", calibration=True)
    if was == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield open_bank(made.path)
    finally:
        os.seteuid(was)
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            path.chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.parametrize("ask", [Bank.task_names, lambda bank: bank.find_task("one"), measure_storage])
def test_a_tasks_folder_that_may_not_be_read_is_not_empty(bank: Bank, ask: Callable[[Bank], object]) -> None:
    (bank.path / "tasks").chmod(0)
    with pytest.raises(StorageError, match=r"cannot read .*tasks.*: Permission denied"):
        ask(bank)


@pytest.mark.parametrize("folder", ["masks", "tasks"])
def test_verify_reports_a_folder_that_may_not_be_read(bank: Bank, folder: str) -> None:
    (bank.path / folder).chmod(0)
    (problem,) = verify_bank(bank.path).problems
    assert problem.file == folder
    assert "Permission denied" in problem.error


def test_a_masks_folder_that_may_not_be_read_is_not_untrained(bank: Bank) -> None:
    (bank.path / "masks").chmod(0)
    for ask in (bank.missing_masks, bank.complete_masks):
        with pytest.raises(StorageError, match=r"cannot read .*masks: Permission denied"):
            ask()


@pytest.mark.parametrize("ask", [open_bank, check_can_create])
def test_a_bank_whose_folder_may_not_be_read_says_so(bank: Bank, ask: Callable[[Path], object]) -> None:
    bank.path.chmod(0)
    with pytest.raises(StorageError, match=r"cannot read .*: Permission denied"):
        ask(bank.path)
    bank.path.chmod(0o700)
    bank.path.parent.chmod(0)
    with pytest.raises(StorageError, match=r"cannot read .*: Permission denied"):
        open_bank(bank.path)


@pytest.mark.parametrize("file", ["bank.json", "masks/00000.safetensors", "tasks/one.safetensors"])
def test_a_file_that_may_not_be_read_is_named(bank: Bank, file: str) -> None:
    (bank.path / file).chmod(0)
    problems = verify_bank(bank.path).problems
    assert [problem.file for problem in problems] == [Path(file).name if file == "bank.json" else file]
    assert "cannot be read: Permission denied" in problems[0].error
    with pytest.raises(ImpressError, match="Permission denied"):
        bank_files(bank.path)


def test_a_file_whose_folder_may_only_be_listed_is_named(bank: Bank) -> None:
    (bank.path / "tasks").chmod(0o400)
    with pytest.raises(ImpressError, match=r"one.safetensors: (cannot be read: )?Permission denied"):
        measure_storage(bank)
