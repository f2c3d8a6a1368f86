"""The recogniser of a bank, and the signatures made with it: stored, found again, kept apart from those of others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import small_bank
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.bank_files.task_classifier import (
    TASK_CLASSIFIER,
    StoredTaskClassifier,
    feature_shape,
    read_task_classifier,
    seal_task_classifier,
)
from impress_format.errors import FormatError, UsageError
from impress_format.operations.create import write_plan
from impress_format.operations.pack import pack_tasks
from impress_format.operations.stats import measure_storage
from impress_format.operations.task_groups import task_groups
from impress_format.operations.verify import Problem
from impress_format.parts.numbers import store
from impress_format.parts.table import stored_parts
from impress_format.tasks.file import seal_task


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress", task_classifier=True)


def fields(task_classifier: StoredTaskClassifier) -> dict[str, Any]:
    return {name: getattr(task_classifier, name) for name in StoredTaskClassifier.__dataclass_fields__}


@settings(max_examples=50)
@given(
    levels=hnp.arrays(np.int8, (7, 4), elements=st.integers(-7, 7)),
    output=hnp.arrays(np.float32, (4, 3), elements=st.floats(-1e6, 1e6, width=32)),
    weight=st.floats(0, 1),
)
def test_a_recogniser_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, levels: np.ndarray, output: np.ndarray, weight: float
) -> None:
    manifest = small_bank.manifest(task_classifier=True)
    stored = StoredTaskClassifier(
        center=np.zeros(7, np.float16),
        scale=np.ones(7, np.float16),
        hidden=levels,
        hidden_step=np.full(4, 0.5, np.float32),
        hidden_bias=np.zeros(4, np.float32),
        output=output,
        output_bias=np.zeros(3, np.float32),
        between=np.ones(3, np.float32),
        sign_weight=weight,
    )
    path = tmp_path_factory.mktemp("recogniser") / "recogniser.safetensors"
    path.write_bytes(seal_task_classifier(manifest, stored))
    _, read = read_task_classifier(path, manifest)
    for name, expected in fields(stored).items():
        assert np.array_equal(getattr(read, name), expected), name
    assert (read.positions, read.signs) == (3, 8 * (64 - 2 - 6 - 3))


def test_a_recogniser_of_one_task_has_no_positions(tmp_path: Path) -> None:
    manifest, none = small_bank.manifest(task_classifier=True), np.zeros(0, np.float32)
    bare = StoredTaskClassifier(
        center=np.zeros(7, np.float16),
        scale=np.ones(7, np.float16),
        hidden=np.zeros((7, 0), np.int8),
        hidden_step=none,
        hidden_bias=none,
        output=np.zeros((0, 0), np.float32),
        output_bias=none,
        between=none,
        sign_weight=1.0,
    )
    path = tmp_path / "recogniser.safetensors"
    path.write_bytes(seal_task_classifier(manifest, bare))
    _, read = read_task_classifier(path, manifest)
    assert (read.positions, read.signs) == (0, 448)


@pytest.mark.parametrize(
    ("shape", "seen"),
    [((1, 28, 28), (1, 28, 28)), ((1, 32, 32), (1, 32, 32)), ((3, 32, 32), (3, 18, 18)), ((3, 4, 900), (3, 4, 18))],
)
def test_large_images_are_seen_pooled(shape: tuple[int, int, int], seen: tuple[int, int, int]) -> None:
    assert feature_shape(shape) == seen


def test_a_signature_is_read_from_a_file_of_its_own_and_from_a_pack(bank: Bank) -> None:
    signature = small_bank.signature(bank, 9)
    bank.write_task(
        small_bank.task_record(bank, "three", "rotated-digits/3"),
        stored_parts(alpha=small_bank.ALPHA, signature=signature),
    )
    bank.write_task(small_bank.task_record(bank, "four", "rotated-digits/4"), stored_parts(alpha=small_bank.ALPHA))
    assert small_bank.signature_of(bank, "three") == signature
    before = {name: bank.tasks.read(name) for name in bank.task_names()}
    assert pack_tasks(bank).packs == 2  # those with a signature, and that without
    packed = open_bank(bank.path)
    assert small_bank.signature_of(packed, "three") == signature
    assert small_bank.signature_of(packed, "four") is None
    for name, stored in before.items():
        assert (stored is not None, packed.tasks.read(name)[1]) == (True, stored[1])  # type: ignore[index]
    assert verify_bank(bank.path).problems == ()


@pytest.mark.parametrize("packed", [False, True])
def test_groups_of_tasks_have_their_signatures(bank: Bank, packed: bool) -> None:
    bank.write_task(
        small_bank.task_record(bank, "three", "rotated-digits/3"),
        stored_parts(alpha=small_bank.ALPHA, signature=small_bank.signature(bank, 9)),
    )
    bank.write_task(small_bank.task_record(bank, "four", "rotated-digits/4"), stored_parts(alpha=small_bank.ALPHA))
    if packed:
        pack_tasks(bank)
    found = {}
    for group in task_groups(open_bank(bank.path)):
        for row, summary in enumerate(group.summaries):
            found[summary.name] = None if group.signatures is None else group.signatures[row].tobytes()
    one = small_bank.signature(bank)
    assert found == {"one": one, "two": one, "three": small_bank.signature(bank, 9), "four": None}


@pytest.mark.parametrize("packed", [False, True])
def test_a_signature_made_with_another_recogniser_is_refused(bank: Bank, packed: bool) -> None:
    foreign = bytes([bank.identity.signature_tag()[0] ^ 1]) + small_bank.signature(bank)[1:]
    bank.write_task(
        small_bank.task_record(bank, "three", "rotated-digits/3"),
        stored_parts(alpha=small_bank.ALPHA, signature=foreign),
    )
    if packed:
        pack_tasks(bank)
    (found,) = verify_bank(bank.path).problems
    assert re.fullmatch(r"signature (of task .* )?was not made with this bank's recogniser", found.error)
    with pytest.raises(FormatError, match="not made with this bank's recogniser"):
        open_bank(bank.path).read_task("three")
    with pytest.raises(FormatError, match="not made with this bank's recogniser"):
        list(task_groups(open_bank(bank.path)))


def test_a_signature_in_a_bank_without_a_recogniser_is_refused(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    bank.write_task(
        small_bank.task_record(bank, "three", "rotated-digits/3"),
        stored_parts(alpha=small_bank.ALPHA, signature=bytes(64)),
    )
    with pytest.raises(FormatError, match="says that there is no recogniser"):
        bank.read_task("three")


def test_version_1_has_neither(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(
        small_bank.manifest(), format_version=1, seed=None, preprocess=None, class_names=None, made_with=None
    )
    with pytest.raises(FormatError, match="recogniser"):
        write_plan(tmp_path / "a.impress", msgspec.structs.replace(manifest, recogniser=True))
    bank = small_bank.make(tmp_path / "b.impress")
    record = small_bank.task_record(bank, "one", "rotated-digits/1")
    with pytest.raises(UsageError, match="stores alpha alone"):
        seal_task(record, stored_parts(alpha=store(small_bank.ALPHA, "float32"), signature=bytes(64)), manifest)


def test_a_recogniser_once_stored_stays(bank: Bank) -> None:
    before = bank.files.path(TASK_CLASSIFIER).read_bytes()
    changed = StoredTaskClassifier(**{**fields(small_bank.some_recogniser()), "sign_weight": 0.5})
    bank.files.write(TASK_CLASSIFIER, changed)
    assert bank.files.path(TASK_CLASSIFIER).read_bytes() == before


def test_verify_misses_a_recogniser_that_the_manifest_names(bank: Bank) -> None:
    bank.files.path(TASK_CLASSIFIER).unlink()
    outcome = verify_bank(bank.path)
    assert outcome.problems == (Problem("recogniser.safetensors", "is missing"),)
    assert {unchecked.file for unchecked in outcome.unchecked} == {
        "masks/00000.safetensors",
        "masks/00001.safetensors",
        "tasks/one.safetensors",
        "tasks/two.safetensors",
    }


def test_verify_finds_a_recogniser_that_the_manifest_does_not_name(tmp_path: Path, bank: Bank) -> None:
    other = small_bank.make(tmp_path / "b.impress")
    other.files.path(TASK_CLASSIFIER).write_bytes(bank.files.path(TASK_CLASSIFIER).read_bytes())
    assert verify_bank(other.path).problems == (Problem("recogniser.safetensors", "does not belong in a bank"),)


def test_what_a_recogniser_costs_is_counted(bank: Bank) -> None:
    disk = measure_storage(bank).bytes
    assert disk.recogniser == bank.files.path(TASK_CLASSIFIER).stat().st_size
    files = [path for path in bank.path.rglob("*") if path.is_file() and path.name[0] != "."]
    assert disk.total == sum(path.stat().st_size for path in files)


def test_a_signature_costs_64_bytes_and_its_place_in_the_header(bank: Bank) -> None:
    record = small_bank.task_record(bank, "one", "rotated-digits/1")
    alpha = store(small_bank.ALPHA, "int8")
    bare, signed = (
        seal_task(record, stored_parts(alpha=alpha, signature=one), bank.manifest)
        for one in (None, small_bank.signature(bank))
    )
    assert len(signed) - len(bare) <= 64 + 72
