"""What stats counts, recomputed by hand from the sizes of files."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank

from impress_format.bank import open_bank
from impress_format.errors import BankMismatch, UsageError
from impress_format.operations.create import write_plan
from impress_format.operations.pack import pack_tasks
from impress_format.operations.stats import measure_storage
from impress_format.parts.own_mask import store_own_mask
from impress_format.parts.residual import store_residual
from impress_format.parts.table import stored_parts

WEIGHTS, ONES = 35 + 15, 7 + 3


def sizes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_bytes_are_those_on_disk(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    storage = measure_storage(bank)
    assert storage.bytes.masks == sizes(bank.path / "masks")
    assert storage.bytes.tasks == sizes(bank.path / "tasks")
    assert storage.bytes.manifest == bank.manifest_path.stat().st_size
    assert storage.bytes.total == sizes(bank.path)
    assert storage.per_task_bytes == sizes(bank.path / "tasks") / 2


@pytest.mark.parametrize("packed", [False, True])
def test_the_bytes_of_tasks_are_told_apart_by_part(tmp_path: Path, packed: bool) -> None:
    bank = small_bank.make(tmp_path / "a.impress", task_classifier=True)
    record = msgspec.structs.replace(
        small_bank.task_record(bank, "all", "rotated-digits/3"), settings=small_bank.settings(residual_bits=1)
    )
    stored = store_residual(np.zeros(16, dtype=np.uint8), np.ones(2, dtype=np.float16), 1)
    own = store_own_mask(np.ones(small_bank.LAYERS[-1].shape, dtype=np.bool_))
    bank.write_task(
        record,
        stored_parts(alpha=small_bank.ALPHA[:, :1], signature=small_bank.signature(bank), residual=stored, mask=own),
    )
    if packed:
        pack_tasks(bank)
    storage = measure_storage(bank)
    parts = {"alpha": 2 * 16 + 8, "mask": 2, "residual": 2 + 4, "signature": 3 * 64}
    parts |= dict.fromkeys(("classes", "head", "norm", "vote"), 0)
    assert storage.task_parts == {**parts, "record": storage.bytes.tasks - sum(parts.values())}


def test_alternatives_are_one_mask_or_model_for_each_task(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    other = measure_storage(bank).alternatives
    assert (other.index16, other.bitmap, other.full_model) == (2 * ONES, 7, 4 * WEIGHTS)
    assert other.compressed == sizes(bank.path / "masks") / 3


def test_trained_masks_serve_their_own_tasks_and_random_ones_none(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    storage = measure_storage(bank)
    assert (storage.masks, storage.stored_tasks, storage.tasks_served) == (3, 2, 4)
    bank.write_task(small_bank.task_record(bank, "again", "rotated-digits/90"), stored_parts(alpha=small_bank.ALPHA))
    assert measure_storage(bank).tasks_served == 4


def test_savings_divide_the_same_tasks_stored_the_other_way_by_everything_here(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    storage = measure_storage(bank)
    assert storage.amortised_bytes == sizes(bank.path) / 4
    assert storage.savings is not None
    assert storage.savings.full_model == pytest.approx(4 * (4 * WEIGHTS) / sizes(bank.path))
    assert storage.savings.index16 == pytest.approx(4 * (2 * ONES) / sizes(bank.path))


@pytest.mark.parametrize("tasks", [2, 5, 1000])
def test_a_grown_bank_has_more_task_files_of_the_mean_size(tmp_path: Path, tasks: int) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    mean = sizes(bank.path / "tasks") / 2
    total = sizes(bank.path) - sizes(bank.path / "tasks") + (tasks - 2) * mean
    assert measure_storage(bank, tasks).amortised_bytes == pytest.approx(total / tasks)


def test_break_even_is_the_first_number_of_tasks_at_which_the_bank_is_smaller(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    storage = measure_storage(bank)
    mean, fixed = sizes(bank.path / "tasks") / 2, sizes(bank.path) - sizes(bank.path / "tasks")
    mask = sizes(bank.path / "masks") / 3
    brute_force = next(t for t in range(2, 10_000) if fixed + (t - 2) * mean < t * mask)
    assert storage.break_even_tasks["compressed"] == brute_force
    assert storage.break_even_tasks["index16"] is None  # 20 bytes a task are less than any file


def test_looking_ahead_needs_a_stored_task_and_a_number_that_makes_sense(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    with pytest.raises(UsageError, match="serve 2"):
        measure_storage(bank, 1)
    for name in bank.task_names():
        bank.remove_task(name)
    assert measure_storage(bank).per_task_bytes is None
    with pytest.raises(UsageError, match="task add"):
        measure_storage(bank, 100)


def test_a_bank_without_any_trained_mask_has_nothing_to_count(tmp_path: Path) -> None:
    write_plan(tmp_path / "a.impress", small_bank.manifest())
    with pytest.raises(BankMismatch, match="no trained mask"):
        measure_storage(open_bank(tmp_path / "a.impress"))


def test_over_pretrained_weights_a_task_is_also_set_beside_a_last_layer_of_its_own(tmp_path: Path) -> None:
    storage = measure_storage(small_bank.over_weights(tmp_path / "a.impress"))
    assert storage.alternatives.float_head == 4 * (3 * 5 + 3)
    assert (storage.tasks_served, storage.amortised_bytes, storage.savings) == (0, None, None)
    assert measure_storage(small_bank.make(tmp_path / "b.impress")).alternatives.float_head is None
