"""A task that begins from another one's parts (`warm_start`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from impress_format import Bank, open_bank
from impress_format.errors import TaskNotFound, UsageError
from impress_format.parts.residual import RESIDUAL
from impress_learn.jobs import add_tasks, create_bank, extend_bank
from impress_learn.parts.table import Parts
from impress_learn.training.config import MaskTraining, TaskTraining

STILL = TaskTraining(epochs=1, lr=1e-9)
"""Learns next to nothing: what a task begins from is what it ends with."""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    path = tmp_path_factory.mktemp("warm") / "a.impress"
    create_bank(path, ("rotated-digits/0", "rotated-digits/90"), fit=MaskTraining(epochs=4))
    parts = Parts(granularity=2, residual=800, alpha_dtype="float32")
    add_tasks(path, ["rotated-digits/40"], fit=TaskTraining(epochs=3), parts=parts)
    return open_bank(path)


def learn(bank: Bank, name: str, **words: Any) -> np.ndarray:
    parts = Parts(**words)
    add_tasks(bank.path, ["rotated-digits/50"], name=name, warm_start="rotated-digits/40", fit=STILL, parts=parts)
    return open_bank(bank.path).read_task(name)[1]


def test_it_begins_from_the_other_tasks_coefficients_at_any_finer_granularity(bank: Bank) -> None:
    earlier = bank.read_task("rotated-digits-40")[1]
    assert np.allclose(learn(bank, "same", granularity=2, alpha_dtype="float32"), earlier, atol=1e-6)
    finer = learn(bank, "finer", granularity=4, alpha_dtype="float32")
    assert np.allclose(finer, earlier.repeat(2, axis=1), atol=1e-6)


def test_a_residual_of_the_same_shape_is_taken_over(bank: Bank) -> None:
    learn(bank, "both", granularity=2, residual=800)
    before, after = (RESIDUAL.of(bank.read_stored(name)) for name in ("rotated-digits-40", "both"))
    assert before is not None
    assert after is not None
    assert np.allclose(before, after, atol=1e-3)


def test_masks_added_since_begin_at_zero(bank: Bank) -> None:
    extend_bank(bank.path, ["rotated-digits/180"], fit=MaskTraining(epochs=1))
    alpha = learn(open_bank(bank.path), "wider", granularity=2, alpha_dtype="float32")
    assert np.allclose(alpha[:2], bank.read_task("rotated-digits-40")[1], atol=1e-6)
    assert np.allclose(alpha[2], 0, atol=1e-6)


def test_the_same_command_again_changes_nothing_and_another_start_is_another_task(bank: Bank) -> None:
    learn(bank, "again", granularity=2)
    before = open_bank(bank.path).task_bytes("again")
    learn(bank, "again", granularity=2)
    assert open_bank(bank.path).task_bytes("again") == before
    with pytest.raises(UsageError, match="again"):
        add_tasks(bank.path, ["rotated-digits/50"], name="again", fit=STILL, parts=Parts(granularity=2))


def test_what_it_cannot_begin_from_is_said(bank: Bank) -> None:
    with pytest.raises(UsageError, match="`granularity` 2: expected a multiple of it, got 3"):
        learn(bank, "x", granularity=3)
    with pytest.raises(UsageError, match="no part that this task could begin from"):
        learn(bank, "x", alpha=False, residual=1600)
    with pytest.raises(TaskNotFound):
        add_tasks(bank.path, ["rotated-digits/50"], name="x", warm_start="nothing", fit=STILL)
