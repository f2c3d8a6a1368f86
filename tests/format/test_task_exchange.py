"""A task's own file, from bank to bank."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small_bank
from small_bank import make, task_record

from impress_format.bank import Bank, open_bank
from impress_format.errors import FormatError, StorageError, TaskExists, TaskNotFound
from impress_format.operations.exchange import export_task, import_tasks
from impress_format.operations.pack import pack_tasks
from impress_format.parts.table import stored_parts


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return make(tmp_path / "a.impress", task_classifier=True)


@pytest.mark.parametrize("packed", [False, True])
def test_a_task_travels_byte_for_byte(bank: Bank, tmp_path: Path, packed: bool) -> None:
    other = open_bank(shutil.copytree(bank.path, tmp_path / "b.impress"))
    own_name = bank.task_bytes("one")
    if packed:
        pack_tasks(bank)
    file = tmp_path / "one.safetensors"
    assert export_task(bank, "rotated-digits/1", file).bytes == len(own_name) == len(file.read_bytes())
    assert file.read_bytes() == own_name
    assert [one.name for one in import_tasks(other, [file])] == ["one"]  # it is there already
    other.remove_task("one")
    import_tasks(other, [file])
    assert other.task_bytes("one") == own_name


def test_a_new_name_changes_nothing_else(bank: Bank, tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    export_task(bank, "one", file)
    import_tasks(bank, [file], "three")
    (was, alpha), (now, again) = bank.read_task("one"), bank.read_task("three")
    assert (now.name, now.task, now.fit, now.accuracy) == ("three", was.task, was.fit, was.accuracy)
    assert (alpha == again).all()
    assert small_bank.signature_of(bank, "three") == small_bank.signature_of(bank, "one")


def test_all_are_checked_before_one_is_stored(bank: Bank, tmp_path: Path) -> None:
    file, renamed, taken = (tmp_path / f"{name}.safetensors" for name in ("file", "renamed", "taken"))
    export_task(bank, "one", file)
    import_tasks(bank, [file], "three")
    export_task(bank, "three", renamed)
    bank.remove_task("three")
    bank.write_task(task_record(bank, "four", "rotated-digits/4"), stored_parts(alpha=bank.read_task("one")[1]))
    export_task(bank, "four", taken)
    bank.remove_task("four")
    bank.write_task(task_record(bank, "four", "rotated-digits/5"), stored_parts(alpha=bank.read_task("two")[1]))
    with pytest.raises(TaskExists, match="four"):
        import_tasks(bank, [renamed, taken])
    taken.write_bytes(taken.read_bytes()[:-1])
    with pytest.raises(FormatError, match="taken"):
        import_tasks(bank, [renamed, taken])
    assert bank.task_names() == ["four", "one", "two"]


def test_a_task_of_another_basis_or_recogniser_is_refused(bank: Bank, tmp_path: Path) -> None:
    elsewhere = make(tmp_path / "b.impress", seed=1, task_classifier=True)
    file = tmp_path / "one.safetensors"
    export_task(elsewhere, "one", file)
    with pytest.raises(FormatError, match="belongs to another bank"):
        import_tasks(bank, [file], "three")
    unsigned = make(tmp_path / "c.impress")
    file.unlink()
    export_task(bank, "one", file)
    with pytest.raises(FormatError, match="no recogniser"):
        import_tasks(unsigned, [file], "three")


def test_nothing_is_overwritten_and_nothing_missing_is_exported(bank: Bank, tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    export_task(bank, "one", file)
    export_task(bank, "one", file)  # the same bytes: done already
    with pytest.raises(StorageError, match="there already"):
        export_task(bank, "two", file)
    with pytest.raises(StorageError, match="there already"):
        export_task(bank, "two", tmp_path)
    with pytest.raises(TaskNotFound):
        export_task(bank, "three", tmp_path / "three.safetensors")
    with pytest.raises(StorageError, match="nowhere"):
        export_task(bank, "one", tmp_path / "nowhere" / "one.safetensors")
