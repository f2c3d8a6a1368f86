"""A bank of the first masks of another: what depends on these alone is the same in both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_bank

from impress_format import open_bank
from impress_format.errors import BankMismatch, UsageError
from impress_format.operations.exchange import export_task, import_tasks
from impress_format.operations.prefix import first_masks
from impress_format.operations.verify import verify_bank


@pytest.mark.parametrize("kept", [{}, {"calibration": True, "task_classifier": True}])
def test_it_has_these_masks_and_what_the_bank_keeps_once(tmp_path: Path, kept: dict[str, bool]) -> None:
    bank = small_bank.make(tmp_path / "a.impress", **kept)
    count = len(bank.manifest.masks) - 1
    first = first_masks(bank, count, tmp_path / "b.impress")
    assert first.manifest.masks == bank.manifest.masks[:count]
    assert verify_bank(first.path).ok
    assert first.basis_digest(count) == bank.basis_digest(count)
    for index in range(count):
        assert first.mask_path(index).read_bytes() == bank.mask_path(index).read_bytes()
        for name, mask in bank.read_mask(index)[1].items():
            assert np.array_equal(first.read_mask(index)[1][name], mask)
    assert first.task_names() == []
    assert {path.name for path in first.path.glob("*.safetensors")} == {
        path.name for path in bank.path.glob("*.safetensors")
    }


def test_given_again_it_is_opened_and_keeps_its_tasks(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    count = len(bank.manifest.masks)
    first = first_masks(bank, count, tmp_path / "b.impress")
    name = bank.task_names()[0]
    export_task(bank, name, tmp_path / "one.safetensors")
    import_tasks(first, [tmp_path / "one.safetensors"])
    assert first_masks(bank, count, first.path).task_names() == [name]


def test_a_run_that_was_stopped_is_finished(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    first = first_masks(bank, 1, tmp_path / "b.impress")
    first.manifest_path.unlink()
    first.mask_path(0).unlink()
    assert verify_bank(first_masks(bank, 1, first.path).path).ok


def test_another_bank_is_left_as_it_is(tmp_path: Path) -> None:
    bank, other = small_bank.make(tmp_path / "a.impress"), small_bank.make(tmp_path / "b.impress", seed=1)
    before = other.manifest_path.read_bytes()
    with pytest.raises(BankMismatch, match=r"b\.impress is another bank than the first 1 masks of .*a\.impress"):
        first_masks(bank, 1, other.path)
    assert open_bank(other.path).manifest_path.read_bytes() == before


@pytest.mark.parametrize("count", [0, -1, 99])
def test_no_bank_has_no_mask_or_more_than_there_are(tmp_path: Path, count: int) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    with pytest.raises(UsageError, match=f"expected 1 to {len(bank.manifest.masks)}, found {count}"):
        first_masks(bank, count, tmp_path / "b.impress")
    assert not (tmp_path / "b.impress").exists()
