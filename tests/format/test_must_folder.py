"""What docs/format.md demands of a bank's folder and of the checksum of its files, where no other test holds it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import small_bank
from test_hostile import CHECKSUM_IN_JSON, with_checksum

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.bank_files.calibration import CALIBRATION, seal_calibration
from impress_format.errors import FormatError
from impress_format.manifest import read_manifest
from impress_format.masks.mask_file import seal_mask
from impress_format.operations.create import extend_plan, write_plan
from impress_format.operations.pack import pack_tasks
from impress_format.parts.table import stored_parts
from impress_format.tasks.file import seal_task


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress", calibration=True)


@pytest.mark.parametrize("folder", [".", "masks", "tasks", "packs"])
@pytest.mark.parametrize("name", [".lock", ".impress-0-0-0.tmp", ".one.safetensors", ".one.removed"])
def test_files_whose_names_start_with_a_dot_are_not_part_of_the_bank(bank: Bank, folder: str, name: str) -> None:
    pack_tasks(bank)
    before = verify_bank(bank.path)
    (bank.path / folder / name).write_bytes(b"not a file of a bank")
    assert verify_bank(bank.path) == before
    assert open_bank(bank.path).task_names() == ["one", "two"]


def replace_a_task(bank: Bank) -> Path:
    record = small_bank.task_record(bank, "one", "rotated-digits/1")
    bank.write_task(record, stored_parts(alpha=-small_bank.ALPHA), replace=True)
    return bank.task_path("one")


def add_a_mask(bank: Bank) -> Path:
    extend_plan(bank, [small_bank.plan("rotated-digits/180", 14)])
    return bank.manifest_path


def replace_the_calibration(bank: Bank) -> Path:
    images = small_bank.some_calibration()
    bank.files.write(CALIBRATION, replace(images, pixels=images.pixels[::-1]))
    return bank.files.path(CALIBRATION)


@pytest.mark.parametrize("change", [replace_a_task, add_a_mask, replace_the_calibration])
def test_what_replaces_a_file_leaves_the_bytes_of_the_finished_one_alone(
    bank: Bank, tmp_path: Path, change: Callable[[Bank], Path]
) -> None:
    """A second name of each file, by hard link, still shows the old bytes."""
    finished = {path: path.read_bytes() for path in bank.path.rglob("*") if path.is_file()}
    for number, path in enumerate(finished):
        os.link(path, tmp_path / str(number))
    changed = change(bank)
    assert changed.read_bytes() != finished[changed]
    for number, content in enumerate(finished.values()):
        assert (tmp_path / str(number)).read_bytes() == content


def of_version_2(bank: Bank, file: str) -> bytes:
    """One file of a bank of version 2 that is the same otherwise."""
    newer = small_bank.manifest(calibration=True)
    if file.startswith("masks"):
        return seal_mask(bank.mask_path(0), newer, 0, small_bank.mask(0), 0.75, None)
    if file.startswith("tasks"):
        record = small_bank.task_record(bank, "one", "rotated-digits/1")
        return seal_task(record, stored_parts(alpha=small_bank.ALPHA), newer)
    return seal_calibration(newer, small_bank.some_calibration())


@pytest.mark.parametrize("file", ["masks/00000.safetensors", "tasks/one.safetensors", "calibration.safetensors"])
def test_a_bank_of_version_1_holds_no_file_of_version_2(tmp_path: Path, file: str) -> None:
    newer = small_bank.manifest(calibration=True)
    older = msgspec.structs.replace(
        newer, format_version=1, made_with=None, seed=None, preprocess=None, class_names=None
    )
    bank = write_plan(tmp_path / "a.impress", older)
    for index in range(3):
        bank.write_mask(index, small_bank.mask(index), 0.75)
    bank.files.write(CALIBRATION, small_bank.some_calibration())
    bank.write_task(small_bank.task_record(bank, "one", "rotated-digits/1"), stored_parts(alpha=small_bank.ALPHA))
    assert verify_bank(bank.path).ok
    (bank.path / file).write_bytes(of_version_2(bank, file))
    (problem,) = verify_bank(bank.path).problems
    assert (problem.file, problem.error) == (file, "has format version 2, the bank 1")


def test_the_checksum_of_the_record_is_the_one_that_stands_at_its_place(bank: Bank) -> None:
    """The field `digest` comes first, so that another one stands last; there the file has its right checksum."""
    fields = json.loads(bank.manifest_path.read_bytes())
    moved = {"digest": fields.pop("digest"), **fields}
    content = json.dumps(moved, indent=2).encode() + b"\n"
    content = with_checksum(content, content.rfind(CHECKSUM_IN_JSON) + len(CHECKSUM_IN_JSON))
    bank.manifest_path.write_bytes(content)
    with pytest.raises(FormatError, match="holds no checksum where one must be"):
        read_manifest(bank.manifest_path)
