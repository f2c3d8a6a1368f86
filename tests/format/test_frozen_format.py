"""Format version 2 as impress 0.1.0 wrote it: `tests/golden/0.1.0` stays as it is and is read for ever.

Its banks hold every part of a task, every file of a bank and every field of their records, loose and packed. Beside
each stands all that is in it, as JSON. `tests/golden/make.py` says how they were made. A format that changes is version
3 and gets a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from impress_format import open_bank, verify_bank
from impress_format.bank_files.table import BANK_FILES
from impress_format.operations.pack import pack_tasks
from impress_format.parts.table import BY_NAME
from impress_format.records.manifest import BankManifest
from impress_format.records.masks import MaskRecord
from impress_format.tasks.file import seal_task, take_apart
from impress_format.tasks.packet import read_packet
from impress_format.tasks.record import TaskRecord

GOLDEN = Path(__file__).parents[1] / "golden"
RELEASE = GOLDEN / "0.1.0"
BANKS = sorted(path.stem for path in RELEASE.glob("*.impress"))
PACKED = [name for name in BANKS if name.endswith("-packed")]
LOOSE = [name.removesuffix("-packed") for name in PACKED]


def expected(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RELEASE / f"{name}.json").read_text())
    return content


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_no_golden_file_changes() -> None:
    """SHA256SUMS is that of `sha256sum`; a release adds lines, none changes one."""
    lines = [line.split("  ") for line in (GOLDEN / "SHA256SUMS").read_text().splitlines()]
    found = {
        str(path.relative_to(GOLDEN)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in GOLDEN.rglob("*")
        if path.is_file() and path.parent != GOLDEN and path.parent.name != "__pycache__"
    }
    assert {path: digest for digest, path in lines} == found


@pytest.mark.parametrize("name", BANKS)
def test_every_bank_verifies(name: str) -> None:
    outcome = verify_bank(RELEASE / f"{name}.impress")
    missing = open_bank(RELEASE / f"{name}.impress").missing_masks()
    assert [problem.file for problem in outcome.problems] == [f"masks/{index:05d}.safetensors" for index in missing]


@pytest.mark.parametrize("name", BANKS)
def test_every_record_and_every_part_reads_as_it_did(name: str, golden_maker: types.ModuleType) -> None:
    assert golden_maker.contents_of(RELEASE / f"{name}.impress") == expected(name)


@pytest.mark.parametrize("name", LOOSE)
def test_what_was_read_is_written_byte_for_byte(name: str, tmp_path: Path) -> None:
    bank = open_bank(RELEASE / f"{name}.impress")
    for task in bank.task_names():
        content = bank.task_bytes(task)
        apart = take_apart(tmp_path, content)
        assert apart is not None
        parts = {part: values for part, values in apart.parts.items() if part != "classes"}  # written of the record
        record = bank.read_stored(task).record
        assert seal_task(record, parts, bank.manifest) == content, task


@pytest.mark.parametrize("name", LOOSE)
def test_packing_makes_the_same_packs(name: str, tmp_path: Path) -> None:
    bank = Path(shutil.copytree(RELEASE / f"{name}.impress", tmp_path / "a.impress"))
    pack_tasks(open_bank(bank))
    packs = RELEASE / f"{name}-packed.impress" / "packs"
    assert {path: content for path, content in files_of(bank / "packs").items() if ".lock" not in path} == files_of(
        packs
    )


@pytest.mark.parametrize("name", LOOSE)
def test_a_packed_bank_has_the_same_tasks_but_for_the_one_that_was_removed(name: str) -> None:
    loose, packed = open_bank(RELEASE / f"{name}.impress"), open_bank(RELEASE / f"{name}-packed.impress")
    removed = {path.stem for path in packed.path.glob("tasks/*.removed")}
    again = {path.stem for path in packed.path.glob("tasks/*.safetensors")}
    assert len(removed) == len(again) == 1
    assert set(loose.task_names()) - set(packed.task_names()) == removed
    for task in packed.task_names():
        assert packed.task_bytes(task) == loose.task_bytes(task)


def test_packets_are_written_as_they_were(golden_maker: types.ModuleType) -> None:
    packets = expected("packets")
    for bank, task in golden_maker.PACKETS:
        assert golden_maker.packets_of(open_bank(RELEASE / f"{bank}.impress"), task) == packets[task]


def test_every_part_is_in_a_file_in_a_pack_and_in_a_packet() -> None:
    for names in (LOOSE, PACKED):
        held = {part for name in names for task in expected(name)["tasks"].values() for part in task["parts"]}
        apart = {
            part
            for name in names
            for bank in [open_bank(RELEASE / f"{name}.impress")]
            for task in bank.task_names()
            for part in (take_apart(Path(task), bank.task_bytes(task)) or pytest.fail(task)).parts
        }
        assert held | apart == set(BY_NAME)
    packets = [bytes.fromhex(text) for texts in expected("packets").values() for text in texts]
    inside = {part for packet in packets for part in read_packet(Path("packet"), packet).parts}
    assert inside == set(BY_NAME) - {"classes"}


def test_every_file_of_a_bank_is_there() -> None:
    names = {path.name for name in BANKS for path in (RELEASE / f"{name}.impress").iterdir()}
    assert names == {"bank.json", "masks", "tasks", "packs", *(file.name for file in BANK_FILES)}


def fields(of: object, where: str = "") -> Iterator[str]:
    """Every field of a kind of record and of the records in it, as `a.b`."""
    inside = get_args(of)
    if get_origin(of) in (Union, types.UnionType, tuple, dict) or hasattr(of, "__metadata__"):
        for one in inside:
            yield from fields(one, where)
    elif isinstance(of, type) and issubclass(of, msgspec.Struct):
        hints = get_type_hints(of, include_extras=True)
        for field in msgspec.structs.fields(of):
            yield f"{where}{field.encode_name}"
            yield from fields(hints[field.name], f"{where}{field.encode_name}.")


def said(value: object, where: str = "") -> Iterator[str]:
    """Names of the fields that a record of JSON says."""
    if isinstance(value, dict):
        for name, inside in value.items():
            yield f"{where}{name}"
            yield from said(inside, f"{where}{name}.")
    elif isinstance(value, list):
        for inside in value:
            yield from said(inside, where)


@pytest.mark.parametrize(
    ("kind", "records"), [(BankManifest, "manifest"), (MaskRecord, "masks"), (TaskRecord, "tasks")]
)
def test_every_field_of_every_record_is_said_somewhere(kind: type, records: str) -> None:
    found: set[str] = set()
    for name in BANKS:
        content = expected(name)[records]
        each = [content] if records == "manifest" else [one["record"] for one in content.values()]
        found |= {field for record in each for field in said(record)}
    assert set(fields(kind)) - found == set()
