"""Hybrid tasks: coefficients in all layers but the last, a mask of their own there (ImpressLearn, Sec. 3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_bank
import torch

from impress_format import open_bank, verify_bank
from impress_format.errors import BankMismatch, UsageError
from impress_format.parts.own_mask import OWN_MASK
from impress_learn import load_bank
from impress_learn.jobs import add_tasks, create_bank, evaluate, update_task
from impress_learn.jobs.identify import evaluate_gn
from impress_learn.network.backbone import members_of
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.progress import Progress
from impress_learn.training.config import MaskTraining, TaskTraining

GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hybrid") / "a.impress"
    create_bank(path, ["rotated-digits/0:180:90"], fit=MaskTraining(epochs=4))
    return path


def test_the_last_layer_is_the_tasks_own_and_the_others_are_combined(bank: Path) -> None:
    (added,) = add_tasks(
        bank, ["rotated-digits/45"], fit=TaskTraining(epochs=8), parts=Parts(hybrid=True, granularity=2)
    )
    assert added.facts["coefficients"] == 2 * (2 + 2)
    opened = open_bank(bank)
    stored = opened.read_stored("rotated-digits-45")
    assert OWN_MASK.of(stored) is not None
    assert small_bank.part(OWN_MASK, stored).sum() == round(0.1 * 1000)
    loaded = load_bank(opened, torch.device("cpu"))
    (effective,) = members_of(loaded.task_weights("rotated-digits-45"))
    *others, last = opened.backbone.masked_layers
    assert np.array_equal(
        effective[last.name].numpy(), small_bank.part(OWN_MASK, stored) * loaded.backbone.weights[last.name].numpy()
    )
    masks = [opened.read_mask(index)[1] for index in range(2)]
    alpha = opened.read_task("rotated-digits-45")[1]
    for place, layer in enumerate(others):
        groups = 2 * place + np.arange(layer.shape[0]) * 2 // layer.shape[0]
        combined = sum(alpha[k, groups, None] * masks[k][layer.name] for k in range(2))
        expected = combined * loaded.backbone.weights[layer.name].numpy()
        np.testing.assert_allclose(effective[layer.name].numpy(), expected, rtol=1e-5, atol=1e-7)
    (measured,) = evaluate(bank, ["rotated-digits-45"])
    assert measured.accuracy == pytest.approx(added.accuracy, abs=1e-4)  # what is stored is what was measured
    assert added.accuracy > 0.6
    assert verify_bank(bank).ok


def test_its_own_mask_does_better_than_coefficients_where_classes_are_permuted(bank: Path) -> None:
    fit = TaskTraining(epochs=8)
    (plain,) = add_tasks(bank, ["permuted-digits/5"], name="plain", fit=fit)
    (hybrid,) = add_tasks(bank, ["permuted-digits/5"], name="hybrid", fit=fit, parts=Parts(hybrid=True))
    assert hybrid.train_accuracy > plain.train_accuracy + 0.05


def test_it_is_updated_refused_a_mixture_and_tried_out_one_by_one(bank: Path) -> None:
    add_tasks(
        bank, ["rotated-digits/30"], name="drifts", fit=TaskTraining(epochs=4), parts=Parts(hybrid=True, residual=800)
    )
    updated = update_task(bank, "drifts", "rotated-digits/40", fit=TaskTraining(epochs=2))
    assert (updated.task, updated.facts["residual"]) == ("rotated-digits/40", 800)
    assert OWN_MASK.of(open_bank(bank).read_stored("drifts")) is not None
    with pytest.raises(BankMismatch, match="cannot be mixed"):
        evaluate_gn(bank, ["drifts"], samples=16, groups=2, method="one-shot")
    assert evaluate_gn(bank, ["drifts"], samples=16, groups=2, method="exhaustive")[0].samples == 32


def test_what_no_hybrid_can_be_is_refused(bank: Path) -> None:
    with pytest.raises(UsageError, match="give it with `alpha`"):
        add_tasks(bank, ["rotated-digits/46"], parts=Parts(hybrid=True, alpha=False, residual=800))
    with pytest.raises(UsageError, match="leave out"):
        add_tasks(bank, ["rotated-digits/46"], parts=Parts(hybrid=True, bytes=600))
    with pytest.raises(BankMismatch, match="version 1, which has no hybrid"):
        add_tasks(GOLDEN_V1, ["rotated-digits/46"], parts=Parts(hybrid=True))


def test_networks_of_several_classifiers_say_which_has_the_mask(tmp_path: Path) -> None:
    path, remarks = tmp_path / "a.impress", list[str]()
    create_bank(
        path,
        ["rotated-digits/0"],
        network=Network(backbone="timm:repvit_m0_9"),
        masks=Masks(masks_per_task=0, random_masks=1),
    )
    fit, progress = TaskTraining(epochs=1, shots=1), Progress(remark=remarks.append)
    add_tasks(path, ["rotated-digits/0"], fit=fit, name="plain", progress=progress)
    assert not any("classifiers" in said for said in remarks)
    add_tasks(path, ["rotated-digits/0"], fit=fit, name="hybrid", parts=Parts(hybrid=True), progress=progress)
    (said,) = (one for one in remarks if "classifiers" in one)
    assert "2 classifiers (head.head.l, head.head_dist.l)" in said
    assert "a mask, head.head_dist.l.weight, and coefficients weigh the bank's masks in the others" in said
