"""Whatever happens to the bytes of a bank, it is noticed, and only this project's errors come out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_bank
from hypothesis import given, settings
from hypothesis import strategies as st

from impress_format import ImpressError, verify_bank
from impress_format.bank_files.calibration import CALIBRATION
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER
from impress_format.operations.create import write_plan
from impress_format.parts.table import stored_parts

FILES = (
    "bank.json",
    "masks/00000.safetensors",
    "tasks/one.safetensors",
    "calibration.safetensors",
    "recogniser.safetensors",
)
GOLDEN = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"
GOLDEN_FILES = sorted(path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "a.impress"
    small_bank.make(path)
    return path


@pytest.fixture(scope="module")
def one_of_each(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank with one file of each kind, so that verifying it 40,000 times takes seconds."""
    path = tmp_path_factory.mktemp("damage") / "a.impress"
    bank = write_plan(path, small_bank.manifest(plans=small_bank.PLANS[:1], calibration=True, task_classifier=True))
    bank.files.write(CALIBRATION, small_bank.some_calibration())
    bank.files.write(TASK_CLASSIFIER, small_bank.some_recogniser())
    signature = small_bank.signature(bank)
    bank.write_mask(0, small_bank.mask(0), 0.75, signature)
    bank.write_task(
        small_bank.task_record(bank, "one", "rotated-digits/1", masks=1),
        stored_parts(alpha=small_bank.ALPHA[:1], signature=signature),
    )
    assert verify_bank(path).ok
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


def flips(content: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def flips_one_a_byte(content: bytes) -> Iterator[bytes]:
    """One bit of each byte, each bit in turn; every bit takes two minutes, and is tried by the slow tests."""
    for byte in range(len(content)):
        damaged = bytearray(content)
        damaged[byte] ^= 1 << byte % 8
        yield bytes(damaged)


def truncations(content: bytes) -> Iterator[bytes]:
    return (content[:length] for length in range(len(content)))


@pytest.mark.parametrize("damage", [flips_one_a_byte, truncations, pytest.param(flips, marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", FILES)
def test_every_flipped_bit_and_every_truncation_is_reported_naming_the_file(
    one_of_each: Path, file: str, damage: Callable[[bytes], Iterator[bytes]]
) -> None:
    for number, damaged in enumerate(damage((one_of_each / file).read_bytes())):
        assert reported(one_of_each, file, damaged), f"{damage.__name__} {number} of {file}"


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flips, truncations])
@pytest.mark.parametrize("file", GOLDEN_FILES)
def test_so_is_every_one_of_the_golden_bank(
    tmp_path: Path, file: str, damage: Callable[[bytes], Iterator[bytes]]
) -> None:
    copy = Path(shutil.copytree(GOLDEN, tmp_path / "a.impress"))
    for number, damaged in enumerate(damage((GOLDEN / file).read_bytes())):
        assert reported(copy, file, damaged), f"{damage.__name__} {number} of {file}"


@pytest.mark.parametrize("file", FILES)
def test_bytes_added_at_the_end_are_reported(one_of_each: Path, file: str) -> None:
    content = (one_of_each / file).read_bytes()
    for tail in (b"\0", b" ", b"\n", content):
        assert reported(one_of_each, file, content + tail)


@settings(max_examples=200)
@given(st.sampled_from(FILES), st.binary(max_size=300))
def test_random_bytes_are_reported_and_raise_nothing_else(one_of_each: Path, file: str, content: bytes) -> None:
    assert reported(one_of_each, file, content)


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
