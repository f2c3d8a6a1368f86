"""A file that a bank keeps once costs its own module and a row of the table: the rest of the format asks the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import small_bank

from impress_format.bank import Bank, open_bank
from impress_format.bank_files import table as bank_files
from impress_format.bank_files.calibration import CALIBRATION
from impress_format.bank_files.projection import PROJECTION
from impress_format.bank_files.row import BankFile
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER
from impress_format.errors import FormatError
from impress_format.operations import create
from impress_format.operations.create import is_empty, write_plan
from impress_format.operations.stats import measure_storage
from impress_format.operations.upgrade import upgrade_files
from impress_format.operations.verify import verify_bank
from impress_format.records.manifest import BankManifest
from impress_format.zoo.entry import bank_files as files_in_zoo

NAME = "motto.txt"


def read_motto(path: Path, _: BankManifest) -> tuple[int, str]:
    """The number of the version it is written in, and the words."""
    version, words = path.read_text().split(" ", 1)
    if not version.isdigit():
        raise FormatError(path, "is no motto")
    return int(version), words


def reseal_motto(path: Path, manifest: BankManifest) -> bytes | None:
    version, words = read_motto(path, manifest)
    return None if version == 2 else seal_motto(manifest, words)


def seal_motto(_: BankManifest, words: str) -> bytes:
    return f"2 {words}".encode()


def motto(**changes: bool) -> BankFile[int, str]:
    return BankFile(
        name=NAME,
        most_bytes=100,
        belongs=lambda path, _: path.exists(),
        read=read_motto,
        seal=seal_motto,
        counted_as="backbone",
        size=len,
        reseal=reseal_motto,
        **changes,
    )


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress")


def put_into_table(patch: pytest.MonkeyPatch, file: BankFile[int, str]) -> None:
    for module in (bank_files, create):
        patch.setattr(module, "BANK_FILES", (*bank_files.BANK_FILES, file))


def strays(bank: Bank) -> Sequence[str]:
    return [problem.file for problem in verify_bank(bank.path).problems]


def test_a_file_without_a_row_does_not_belong(bank: Bank) -> None:
    (bank.path / NAME).write_text("2 less is more")
    assert strays(bank) == [NAME]


def test_a_row_is_verified_measured_and_shared(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    before = measure_storage(bank).bytes.backbone
    put_into_table(monkeypatch, motto())
    bank.files.write(motto(), "less is more")
    assert strays(bank) == []
    assert measure_storage(bank).bytes.backbone == before + len("2 less is more")
    assert NAME in {file.path for file in files_in_zoo(bank.path)}
    (bank.path / NAME).write_text("less is more")
    assert strays(bank) == [NAME]


def test_a_row_says_how_its_file_is_put_into_a_newer_version(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    put_into_table(monkeypatch, motto())
    (bank.path / NAME).write_text("1 less is more")
    assert upgrade_files(bank, bank.manifest) == 1
    assert (bank.path / NAME).read_text() == "2 less is more"
    assert upgrade_files(bank, bank.manifest) == 0


@pytest.mark.parametrize("binds", [True, False])
def test_a_row_says_whether_its_file_stays_when_a_plan_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, binds: bool
) -> None:
    put_into_table(monkeypatch, motto(binds=binds))
    planned = write_plan(tmp_path / "b.impress", small_bank.manifest(0))
    planned.files.write(motto(), "less is more")
    assert is_empty(open_bank(planned.path)) != binds
    if not binds:
        write_plan(planned.path, small_bank.manifest(1))
        assert not (planned.path / NAME).exists()


def test_a_file_that_is_there_is_kept_or_replaced_as_its_row_says(bank: Bank) -> None:
    for file, found in ((motto(), "less is more"), (motto(replaced=True), "more is more")):
        bank.files.write(file, "less is more")
        bank.files.write(file, "more is more")
        assert bank.files.read(file) == (2, found)


def test_what_is_known_of_a_file_is_read_once(bank: Bank) -> None:
    bank.files.write(motto(), "less is more")
    assert (bank.files.known(motto()).record, bank.files.known(motto()).size) == (2, 12)
    (bank.path / NAME).unlink()
    assert bank.files.known(motto()).size == 12
    with pytest.raises(FileNotFoundError):
        open_bank(bank.path).files.known(motto())


def test_the_rows_there_are() -> None:
    assert bank_files.BANK_FILES == (TASK_CLASSIFIER, PROJECTION, CALIBRATION)
    assert [file.name for file in bank_files.BANK_FILES if file.binds] == ["projection.safetensors"]
