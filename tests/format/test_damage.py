"""Whatever happens to the bytes of a bank, it is noticed, and only this project's errors come out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small_bank
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from impress_format import ImpressError, verify_bank

FILES = ("bank.json", "masks/00001.safetensors", "tasks/one.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "a.impress"
    small_bank.make(path)
    return path


def reported(folder: Path, file: str, content: bytes) -> bool:
    """Whether verify names `file` when it holds `content`; the file is put back afterwards."""
    path = folder / file
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        return file in {problem.file for problem in verify_bank(folder).problems}
    finally:
        path.write_bytes(before)


def test_the_undamaged_bank_is_ok(folder: Path) -> None:
    outcome = verify_bank(folder)
    assert (outcome.ok, outcome.checked) == (True, 6)


@pytest.mark.parametrize("file", FILES)
def test_every_flipped_bit_is_reported_naming_the_file(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert reported(folder, file, bytes(damaged)), f"bit {bit} of {file}"


@pytest.mark.parametrize("file", FILES)
def test_every_truncation_is_reported_naming_the_file(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    for length in range(len(content)):
        assert reported(folder, file, content[:length]), f"{file} cut to {length}"


@pytest.mark.parametrize("file", FILES)
def test_bytes_added_at_the_end_are_reported(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    for tail in (b"\0", b" ", b"\n", content):
        assert reported(folder, file, content + tail)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(FILES), st.binary(max_size=300))
def test_random_bytes_are_reported_and_raise_nothing_else(folder: Path, file: str, content: bytes) -> None:
    assert reported(folder, file, content)


def test_missing_and_foreign_files_are_reported(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "b.impress"))
    (copy / "masks" / "00002.safetensors").unlink()
    (copy / "masks" / "00003.safetensors").write_bytes(b"")
    (copy / "tasks" / "notes.txt").write_text("hello")
    (copy / "tasks" / "sub").mkdir()
    (copy / "readme").write_text("hello")
    named = {problem.file for problem in verify_bank(copy).problems}
    assert named == {"masks/00002.safetensors", "masks/00003.safetensors", "tasks/notes.txt", "tasks/sub", "readme"}


def test_a_link_in_place_of_a_file_is_reported(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "b.impress"))
    outside = tmp_path / "outside.safetensors"
    (copy / "tasks" / "one.safetensors").rename(outside)
    (copy / "tasks" / "one.safetensors").symlink_to(outside)
    (problem,) = verify_bank(copy).problems
    assert problem.file == "tasks/one.safetensors"


def test_a_task_or_mask_under_another_name_is_reported(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "b.impress"))
    (copy / "tasks" / "one.safetensors").rename(copy / "tasks" / "three.safetensors")
    shutil.copy(copy / "masks" / "00000.safetensors", copy / "masks" / "00001.safetensors")
    named = {problem.file for problem in verify_bank(copy).problems}
    assert {"tasks/three.safetensors", "masks/00001.safetensors"} <= named


def test_deep_json_is_an_error_of_ours(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "b.impress"))
    (copy / "bank.json").write_bytes(b'{"format_version":' + b"[" * 100_000)
    assert not verify_bank(copy).ok
    header = b'{"__metadata__":' + b"[" * 100_000
    (copy / "tasks" / "one.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ImpressError):
        small_bank.make(tmp_path / "c.impress").read_task("../b.impress")
    assert not verify_bank(copy).ok
