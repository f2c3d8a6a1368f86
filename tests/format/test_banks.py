"""Creating, extending and filling a bank, and what it refuses."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import small_bank

import impress_format
from impress_format.bank import open_bank
from impress_format.bank_files.calibration import CALIBRATION
from impress_format.container.sealed_file import seal_tensors
from impress_format.disk.files import remove_abandoned, write_atomically
from impress_format.disk.locks import exclusive
from impress_format.disk.regular_file import machine_tag
from impress_format.errors import (
    AmbiguousTask,
    BankMismatch,
    BankNotFound,
    FormatError,
    StorageError,
    TaskExists,
    TaskNotFound,
    UnsupportedVersion,
    UsageError,
)
from impress_format.operations.create import extend_plan, write_plan
from impress_format.parts.table import stored_parts
from impress_format.records.manifest import MadeWith
from impress_format.records.masks import MaskPlan
from impress_format.tasks.file import check_task_name
from impress_format.tasks.record import version_1

GOLDEN = Path(__file__).parents[1] / "golden"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    small_bank.make(tmp_path / "a.impress")
    bank = open_bank(tmp_path / "a.impress")
    record, masks = bank.read_mask(1)
    assert record.accuracy == pytest.approx(0.85)
    assert record.ones == small_bank.ONES
    assert all(np.array_equal(masks[name], mask) for name, mask in small_bank.mask(1).items())
    task, alpha = bank.read_task("two")
    assert task.task == "rotated-digits/2"
    assert np.array_equal(alpha, -small_bank.ALPHA)
    assert bank.task_names() == ["one", "two"]


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    one, other = small_bank.make(tmp_path / "a.impress"), small_bank.make(tmp_path / "b.impress")
    assert contents(one.path) == contents(other.path)


def test_a_plain_safetensors_reader_opens_a_task_and_finds_one_metadata_key(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    with safetensors.safe_open(bank.task_path("one"), framework="numpy") as file:
        assert set(file.metadata()) == {"impress"}
        assert file.metadata()["impress"] == "2"
        (name,) = file.keys()
        row = file.get_tensor(name).tobytes()
    assert row[:24].hex() == bank.read_task_record("one").digest + bank.basis_digest(2)[:16]
    own, common, parts, numbers = row[24:].split(b"\n", 3)
    assert json.loads(b"[%s]" % own) == ["rotated-digits/1", 0.9, 0.95, "one"]
    assert json.loads(b"[%s]" % common) == [[3, 0.03]]
    assert (parts, numbers) == (b"a2x2f", small_bank.ALPHA.tobytes())


def test_a_manifest_is_json_that_people_can_read(tmp_path: Path) -> None:
    manifest = json.loads(small_bank.make(tmp_path / "a.impress").manifest_path.read_text())
    assert manifest["format_version"] == 2
    assert list(manifest["made_with"]) == ["impress", "torch", "timm", "numpy"]
    assert manifest["preprocess"]["size"] == [1, 7]
    assert [mask["task"] for mask in manifest["masks"]] == ["rotated-digits/0", "rotated-digits/90", None]


def test_a_bank_of_version_1_keeps_its_version_when_masks_are_added(tmp_path: Path) -> None:
    old = open_bank(shutil.copytree(GOLDEN / "v1" / "digits.impress", tmp_path / "a.impress"))
    assert (old.manifest.made_with, old.manifest.seed, old.manifest.preprocess) == (None, None, None)
    extended = extend_plan(old, [msgspec.structs.replace(old.manifest.masks[0], seed=99)])
    assert [extended.manifest.format_version, len(extended.manifest.masks)] == [1, 3]
    assert set(json.loads(extended.manifest_path.read_text())) == {
        "format_version", "backbone", "masks", "calibration", "digest"
    }  # fmt: skip
    for name in old.task_names():
        assert np.array_equal(extended.read_task(name)[1], old.read_task(name)[1])


def test_other_releases_do_not_make_another_bank_of_one_that_is_resumed(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    later = MadeWith(impress="0.2.0", torch="3.0", timm="2.0", numpy="3.0")
    assert write_plan(bank.path, msgspec.structs.replace(small_bank.manifest(), made_with=later)) == bank


def test_creating_the_same_bank_again_opens_it(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    before = contents(bank.path)
    again = write_plan(bank.path, small_bank.manifest())
    assert again == bank
    assert contents(bank.path) == before


@pytest.mark.parametrize(
    ("seed", "plans", "words"),
    [
        (1, small_bank.PLANS, "backbone seed 0 there, 1 asked"),
        (0, small_bank.PLANS[:2], "3 masks there, 2 asked"),
        (0, (small_bank.plan("rotated-digits/0", 11, density=0.3), *small_bank.PLANS[1:]), "density 0.2 there, 0.3"),
    ],
)
def test_creating_another_bank_over_it_is_refused(
    tmp_path: Path, seed: int, plans: tuple[MaskPlan, ...], words: str
) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    before = contents(bank.path)
    with pytest.raises(BankMismatch, match=words):
        write_plan(bank.path, small_bank.manifest(seed, plans))
    assert contents(bank.path) == before


def test_masks_without_a_file_are_missing_until_they_are_written(tmp_path: Path) -> None:
    bank = write_plan(tmp_path / "a.impress", small_bank.manifest())
    assert bank.missing_masks() == [0, 1, 2]
    bank.write_mask(1, small_bank.mask(1), 0.5)
    assert bank.missing_masks() == [0, 2]
    with pytest.raises(BankMismatch, match="1 of its 3 masks"):
        bank.complete_masks()


def test_a_mask_that_is_there_is_kept(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    before = contents(bank.path)
    bank.write_mask(1, small_bank.mask(99), 0.1)
    assert contents(bank.path) == before


def test_a_mask_with_another_number_of_ones_is_not_stored(tmp_path: Path) -> None:
    bank = write_plan(tmp_path / "a.impress", small_bank.manifest())
    masks = small_bank.mask(0)
    masks["a.weight"][:] = True
    with pytest.raises(FormatError, match="ones"):
        bank.write_mask(0, masks, None)
    assert bank.missing_masks() == [0, 1, 2]


def test_extending_keeps_every_alpha_valid_and_plans_no_mask_twice(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    before = contents(bank.path / "tasks")
    more = small_bank.plan("rotated-digits/180", 14)
    bigger = extend_plan(bank, [small_bank.PLANS[0], more])
    assert bigger.manifest.masks == (*small_bank.PLANS, more)
    assert bigger.missing_masks() == [3]
    assert np.array_equal(bigger.read_task("one")[1], small_bank.ALPHA)
    assert extend_plan(bigger, [more]) == bigger
    assert contents(bank.path / "tasks") == before


@pytest.mark.parametrize(("path", "words"), [("nowhere", "no bank"), ("file", "is a file"), ("empty", "not a bank")])
def test_a_path_without_a_bank_is_refused(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BankNotFound, match=words):
        open_bank(tmp_path / path)


@pytest.mark.parametrize(("version", "error"), [(3, UnsupportedVersion), (10**9, UnsupportedVersion), (0, FormatError)])
def test_only_known_format_versions_are_read(tmp_path: Path, version: int, error: type[Exception]) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    text = bank.manifest_path.read_text().replace('"format_version": 2', f'"format_version": {version}')
    bank.manifest_path.write_text(text)
    with pytest.raises(error, match=str(version)):
        open_bank(bank.path)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", ".x", "-x", "a b", "é", "x\n", "x" * 101])
def test_a_task_name_cannot_lead_out_of_the_bank(name: str) -> None:
    with pytest.raises(UsageError, match="task name"):
        check_task_name(name)


def test_a_task_is_found_by_name_and_by_reference(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    assert bank.find_task("two") == "two"
    assert bank.find_task("rotated-digits/2") == "two"
    with pytest.raises(TaskNotFound, match="one, two"):
        bank.find_task("three")


def test_a_reference_that_two_tasks_were_learned_from_names_neither(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    bank.write_task(small_bank.task_record(bank, "again", "rotated-digits/2"), stored_parts(alpha=small_bank.ALPHA))
    before = contents(bank.path)
    for ask in (bank.find_task, bank.remove_task):
        with pytest.raises(AmbiguousTask, match="again, two"):
            ask("rotated-digits/2")
    assert contents(bank.path) == before
    assert bank.remove_task("again") == "again"
    assert bank.find_task("rotated-digits/2") == "two"


def test_a_mask_trained_as_the_only_one_of_its_task_is_not_trained_again_as_one_of_several(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    several = [msgspec.structs.replace(small_bank.PLANS[0], kind="homogeneous"),
               msgspec.structs.replace(small_bank.plan("rotated-digits/0", 31), kind="homogeneous")]  # fmt: skip
    assert extend_plan(bank, several).manifest.masks == (*small_bank.PLANS, several[1])


def test_a_plan_of_which_nothing_was_trained_gives_way(tmp_path: Path) -> None:
    planned = write_plan(tmp_path / "a.impress", small_bank.manifest(calibration=True))
    planned.files.write(CALIBRATION, small_bank.some_calibration())
    other = write_plan(planned.path, small_bank.manifest(1, small_bank.PLANS[:2]))
    assert (other.backbone.seed, len(other.manifest.masks)) == (1, 2)
    assert list(contents(other.path)) == ["bank.json"]
    other.write_mask(0, small_bank.mask(0), 0.5)
    with pytest.raises(BankMismatch, match="backbone seed 1 there, 0 asked"):
        write_plan(planned.path, small_bank.manifest(calibration=True))


def test_of_two_processes_that_create_one_bank_the_second_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process writes its manifest, and a mask, between our look at the folder and our own manifest."""

    def other_is_faster(path: Path) -> None:
        monkeypatch.undo()
        small_bank.make(path, seed=1)

    monkeypatch.setattr("impress_format.operations.create.check_can_create", other_is_faster)
    with pytest.raises(BankMismatch, match="backbone seed 1 there, 2 asked"):
        write_plan(tmp_path / "a.impress", small_bank.manifest(2))
    assert open_bank(tmp_path / "a.impress").backbone.seed == 1


def test_an_empty_path_is_no_bank_and_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_bank.make(tmp_path / "a.impress").path)
    with pytest.raises(BankNotFound, match="empty"):
        open_bank("")


def test_tasks_are_listed_as_people_count(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    for name in ("t-10", "t-9", "t-100"):
        bank.write_task(
            small_bank.task_record(bank, name, f"rotated-digits/{name[2:]}"), stored_parts(alpha=small_bank.ALPHA)
        )
    assert bank.task_names() == ["one", "t-9", "t-10", "t-100", "two"]


def test_a_task_that_exists_is_kept_unless_replaced(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    before = contents(bank.path)
    record = small_bank.task_record(bank, "one", "rotated-digits/7")
    with pytest.raises(TaskExists, match="one"):
        bank.write_task(record, stored_parts(alpha=small_bank.ALPHA))
    assert contents(bank.path) == before
    bank.write_task(record, stored_parts(alpha=small_bank.ALPHA), replace=True)
    assert bank.read_task("one")[0].task == "rotated-digits/7"


def test_removing_a_task_removes_its_file_only(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    before = contents(bank.path)
    assert bank.remove_task("rotated-digits/1") == "one"
    del before["tasks/one.safetensors"]
    assert contents(bank.path) == before


@pytest.mark.parametrize(
    "alpha",
    [
        np.array([[np.nan, 0], [0, 0]], dtype=np.float32),
        np.array([[np.inf, 0], [0, 0]], dtype=np.float32),
        np.zeros((2, 3), dtype=np.float32),
        np.zeros((4, 2), dtype=np.float32),
        np.zeros((0, 2), dtype=np.float32),
        np.zeros(4, dtype=np.float32),
        np.zeros((2, 2), dtype=np.float64),
        np.zeros((2, 2), dtype=np.int32),
    ],
    ids=lambda alpha: f"{alpha.dtype}-{alpha.shape}-{alpha.ravel()[:1]}",
)
def test_an_alpha_that_does_not_fit_is_refused_however_well_sealed(tmp_path: Path, alpha: np.ndarray) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    record = small_bank.task_record(bank, "one", "rotated-digits/1")
    bank.task_path("one").write_bytes(seal_tensors(version_1(record), {"alpha": alpha}))
    with pytest.raises(FormatError, match="alpha"):
        bank.read_task("one")


def test_an_alpha_learned_over_another_basis_is_refused(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    other = small_bank.make(tmp_path / "b.impress", seed=1)
    bank.task_path("one").write_bytes(other.task_path("one").read_bytes())
    with pytest.raises(FormatError, match="another basis"):
        bank.read_task("one")


def test_finer_granularity_takes_a_column_a_group(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    record = msgspec.structs.replace(
        small_bank.task_record(bank, "fine", "rotated-digits/9"), settings=small_bank.settings(granularity=4)
    )
    columns = 4 + 3  # layers of 5 and of 3 output channels
    bank.write_task(record, stored_parts(alpha=np.ones((2, columns), dtype=np.float32)))
    assert bank.read_task("fine")[1].shape == (2, columns)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    before = contents(bank.path)

    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=os.strerror(code)):
        bank.write_task(small_bank.task_record(bank, "new", "rotated-digits/5"), stored_parts(alpha=small_bank.ALPHA))
    with pytest.raises(StorageError):
        extend_plan(bank, [small_bank.plan("rotated-digits/180", 14)])
    assert contents(bank.path) == before


def test_a_disk_that_is_really_full_is_reported() -> None:
    with pytest.raises(StorageError, match="cannot write"):
        write_atomically(Path("/dev/full/x"), b"x", replace=True)


def test_a_taken_name_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "x", b"new", replace=False)
    assert contents(tmp_path) == {"x": b"old"}


def test_only_one_process_holds_a_folder(tmp_path: Path) -> None:
    script = f"from pathlib import Path; from impress_format.disk.locks import exclusive\nwith exclusive(Path({str(tmp_path)!r}), wait=False): pass"  # noqa: E501
    with exclusive(tmp_path, wait=False):
        held = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "another process" in held.stderr
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def temporary(machine: str, process: int) -> str:
    return f".impress-{machine}-{process}-ab.tmp"


def test_unfinished_writes_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for process in (dead.pid, os.getpid()):
        (tmp_path / temporary(machine_tag(), process)).write_bytes(b"")
    remove_abandoned(tmp_path)
    assert list(contents(tmp_path)) == [temporary(machine_tag(), os.getpid())]


def test_an_unfinished_write_of_another_machine_is_left_for_a_day(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    elsewhere = tmp_path / temporary("0" * 8, dead.pid)
    elsewhere.write_bytes(b"")
    for age_s, there in ((0, True), (3600, True), (2 * 24 * 3600, False)):
        os.utime(elsewhere, (time.time() - age_s,) * 2)
        remove_abandoned(tmp_path)
        assert elsewhere.exists() == there


def test_the_public_surface_is_small() -> None:
    assert impress_format.__all__ == ["Bank", "ImpressError", "Verification", "open_bank", "verify_bank"]
    assert all(getattr(impress_format, name).__name__ == name for name in impress_format.__all__)
    with pytest.raises(AttributeError):
        impress_format.nothing  # noqa: B018


def test_an_opened_bank_is_frozen(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    with pytest.raises(AttributeError):
        bank.path = tmp_path  # type: ignore[misc]
    assert replace(bank, path=tmp_path).path == tmp_path
