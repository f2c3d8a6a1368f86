"""Signed and real masks are trained, stored, and combined like binary ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from impress_format import open_bank, verify_bank
from impress_format.errors import BankMismatch, UsageError
from impress_format.records.fields import MaskType
from impress_learn import load_bank
from impress_learn.jobs import add_tasks, create_bank, evaluate, extend_bank
from impress_learn.network.backbone import members_of
from impress_learn.plan.asked import Masks
from impress_learn.training.config import MaskTraining, TaskTraining

CPU = torch.device("cpu")
GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"


@pytest.mark.parametrize("mask_type", ["signed", "real"])
def test_a_bank_is_trained_and_tasks_are_combined_from_it(tmp_path: Path, mask_type: MaskType) -> None:
    path = tmp_path / "a.impress"
    create_bank(
        path, ["rotated-digits/0:180:90"], fit=MaskTraining(epochs=6), masks=Masks(mask_type=mask_type, random_masks=0)
    )
    bank = open_bank(path)
    record, masks = bank.read_mask(0)
    assert record.accuracy is not None
    assert record.accuracy > 0.8
    (first, *_) = evaluate(path, basis=True)
    assert first.accuracy == pytest.approx(record.accuracy, abs=1e-4)  # what is stored is what was measured
    values = masks["fc1.weight"][masks["fc1.weight"] != 0]
    assert len(values) == round(0.1 * 235_200)
    assert 0.3 < (values < 0).mean() < 0.7
    sizes = np.abs(values)
    assert (sizes == 1).all() if mask_type == "signed" else sizes.mean() == pytest.approx(1, abs=0.02)
    (added,) = add_tasks(path, ["rotated-digits/10"], fit=TaskTraining(epochs=8))
    assert added.accuracy > 0.6
    loaded = load_bank(bank, CPU)
    alpha = bank.read_task("rotated-digits-10")[1]
    expected = sum(alpha[k, 0] * bank.read_mask(k)[1]["fc1.weight"] for k in range(2))
    weight = loaded.backbone.weights["fc1.weight"].numpy()
    found = members_of(loaded.task_weights("rotated-digits-10"))[0]["fc1.weight"].numpy()
    np.testing.assert_allclose(found, expected * weight, rtol=1e-4, atol=1e-6)
    assert verify_bank(path).ok


def test_one_bank_may_mix_them(tmp_path: Path) -> None:
    path = tmp_path / "a.impress"
    quick = MaskTraining(epochs=1)
    create_bank(path, ["rotated-digits/0"], fit=quick, masks=Masks(random_masks=1, mask_type="signed"))
    extend_bank(path, ["rotated-digits/90"], fit=quick)  # as the first: signed
    extend_bank(path, ["rotated-digits/180"], fit=quick, masks=Masks(mask_type="real"))
    extend_bank(path, ["rotated-digits/270"], fit=quick, masks=Masks(mask_type="binary"))
    bank = open_bank(path)
    assert [plan.type for plan in bank.manifest.masks] == ["signed", "signed", "signed", "real", "binary"]
    random = bank.read_mask(1)[1]["fc1.weight"]
    assert 0.45 < (random[random != 0] < 0).mean() < 0.55
    loaded = load_bank(bank, CPU)
    for index in range(5):
        mask, weight = bank.read_mask(index)[1]["fc2.weight"], loaded.backbone.weights["fc2.weight"].numpy()
        np.testing.assert_allclose(loaded.mask_weights(index)["fc2.weight"].numpy(), mask * weight, rtol=1e-6)
    add_tasks(path, ["rotated-digits/45"], fit=TaskTraining(epochs=1))
    assert verify_bank(path).ok


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="binary or signed"):
        create_bank(tmp_path / "a.impress", ["rotated-digits/0"], masks=Masks(random_masks=1, mask_type="real"))
    with pytest.raises(BankMismatch, match="masks are binary, of one density"):
        extend_bank(GOLDEN_V1, ["rotated-digits/20"], masks=Masks(mask_type="signed"))
