"""The paper's Table 2: what its formula gives, and what a basis really saves."""

from __future__ import annotations

from fractions import Fraction
from math import log2

import pytest
import timm
import torch

from impress_format.errors import UsageError
from impress_format.operations.table2 import table2

ROWS = {(row.dataset, row.model): row for row in table2()}


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: f"{row.dataset}-{row.model}")
def test_every_row_follows_from_the_formula(row) -> None:  # type: ignore[no-untyped-def]
    mask = Fraction(16, 8) * Fraction(125, 1000) * row.params
    phi = row.masks * mask / row.paper.tasks + 4 * row.alpha
    assert row.alpha == row.masks * row.layers
    assert row.paper.mask_kb == pytest.approx(float(mask / 1024))
    assert row.paper.phi_kb == pytest.approx(float(phi / 1024))
    assert row.paper.savings == pytest.approx(float(mask / phi))
    bits = -0.125 * log2(0.125) - 0.875 * log2(0.875)
    assert row.here.mask_kb == pytest.approx(bits * row.params / 8 / 1024, rel=1e-4)


@pytest.mark.parametrize("name", ["ResNet-18", "ResNet-34", "ResNet-50", "ResNet-101"])
def test_weights_and_layers_are_those_of_the_network(name: str) -> None:
    model = timm.create_model(name.lower().replace("-", ""))
    weights = [part.weight for part in model.modules() if isinstance(part, (torch.nn.Conv2d, torch.nn.Linear))]
    row = ROWS["SplitImageNet", name]
    assert (row.layers, row.params) == (len(weights), sum(weight.numel() for weight in weights))


def test_a_bitmap_for_each_task_is_no_larger_than_the_phi_of_half_as_many_masks_as_tasks() -> None:
    row = ROWS["SplitCIFAR-100", "ResNet-18, narrow"]
    assert row.paper.savings == pytest.approx(1.998, abs=1e-3)  # printed: 1.99
    assert row.params / 8 / 1024 == pytest.approx(757, abs=1)  # KiB of a bitmap
    assert row.paper.savings_bitmap < 1


def test_a_basis_of_as_many_masks_as_there_are_tasks_saves_nothing() -> None:
    for row in ROWS.values():
        if row.as_run is not None:
            assert row.masks == row.as_run.tasks
            assert 0.99 < row.as_run.savings < 1
    assert ROWS["RotatedMNIST", "LeNet-300-100"].as_run is None


def test_more_tasks_share_a_basis_at_less_each() -> None:
    few, many = table2(100)[0], table2(100_000)[0]
    assert many.paper.phi_kb < few.paper.phi_kb
    assert many.here.savings > 50
    assert many.as_run is None


@pytest.mark.parametrize("tasks", [0, -1, 2**70])
def test_no_number_of_tasks_is_refused(tasks: int) -> None:
    with pytest.raises(UsageError, match="`total_tasks`"):
        table2(tasks)
