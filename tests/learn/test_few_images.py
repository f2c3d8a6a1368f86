"""Learning from few images: small changes of them, and a ridge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from impress_format.records.masks import MaskPlan
from impress_learn import TaskTraining, add_tasks, create_bank, evaluate
from impress_learn.masks.basis import Basis, effective_weights, make_basis
from impress_learn.masks.edge_popup import random_supermask
from impress_learn.network.build import build_backbone
from impress_learn.parts.alpha import trainable_alpha
from impress_learn.parts.alpha_start import choose_start, usual_ridge
from impress_learn.parts.part import FewImages, Weights
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks
from impress_learn.streams.jitter import jitter
from impress_learn.streams.load import load_task, training_images
from impress_learn.streams.reference import parse_reference
from impress_learn.tasks.weights import train_parts


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_images_are_moved_turned_and_scaled_by_a_little() -> None:
    """A dot's distance from where it was is no more than shift, turn and scale together allow."""
    images = torch.full((200, 1, 28, 28), -0.4)
    images[:, :, 10:12, 17:19] = 2.0
    weight_delta = jitter(images, generator())
    assert weight_delta.shape == images.shape
    assert float(weight_delta.min()) == pytest.approx(-0.4, abs=1e-5)  # what comes in is background
    weights = (weight_delta + 0.4)[:, 0]
    grid = torch.arange(28.0)
    mass = weights.sum((1, 2))
    rows, columns = (weights.sum(2) @ grid) / mass, (weights.sum(1) @ grid) / mass
    apart = torch.stack([rows - 10.5, columns - 17.5], 1).norm(dim=1)
    assert float(apart.max()) < 2 * np.sqrt(2) + 5 * (np.deg2rad(12) + 0.13) + 0.5
    assert float(apart.min()) < 0.7
    assert float(apart.std()) > 0.3
    assert float(rows.mean()) == pytest.approx(10.5, abs=0.3)
    assert float(columns.mean()) == pytest.approx(17.5, abs=0.3)
    assert torch.equal(jitter(images, generator(1)), jitter(images, generator(1)))
    assert not torch.equal(jitter(images, generator(1)), jitter(images, generator(2)))


@pytest.mark.parametrize(("task", "varied"), [("rotated-digits/30", True), ("permuted-digits/30", False)])
def test_few_images_are_varied_where_the_stream_allows_and_many_never(task: str, varied: bool) -> None:
    data = load_task(parse_reference(task), data_dir=None)
    few, every = training_images(data, 5, 0), training_images(data, None, 0)
    assert len(few) == 50
    plain = few.batch(slice(None))[0]
    assert torch.equal(few.batch(slice(None), generator())[0], plain) != varied
    assert torch.equal(every.batch(slice(0, 9), generator())[0], every.batch(slice(0, 9))[0])


@pytest.fixture(scope="module")
def basis() -> Basis:
    backbone = build_backbone("lenet-300-100", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    return make_basis(backbone, [random_supermask(backbone.spec, density=0.5, seed=seed) for seed in range(4)])


PLANS = tuple(MaskPlan(kind="random", task=None, density=0.5, seed=seed, fit=None) for seed in range(4))


def few(basis: Basis, wanted: Tensor, **others: Any) -> FewImages:
    """Images whose loss is how far the first layer's weights are from those under alpha `wanted` (4, 3)."""
    best = effective_weights(basis, wanted)

    def loss(weights: Weights) -> float:
        return float((weights["fc1.weight"] - best["fc1.weight"]).norm())

    return FewImages(**{"count": 10, "loss": loss, "guess": 50.0, "stored": [], **others})


def single(index: int) -> Tensor:
    return torch.eye(4)[index][:, None].repeat(1, 3)


def test_a_task_begins_from_the_mask_that_its_images_fit(basis: Basis) -> None:
    start = choose_start(basis, 1, few(basis, single(2)), PLANS)
    assert start.words.startswith("mask 2")
    assert torch.equal(start.values, single(2))
    assert start.ridge.argmin() == 2, "the likeliest mask is held least"
    fewer = choose_start(basis, 1, few(basis, single(2), count=5), PLANS)
    assert bool((fewer.ridge > start.ridge).all()), "from fewer images all are held more"


def test_a_task_that_no_mask_fits_begins_from_all_of_them(basis: Basis) -> None:
    start = choose_start(basis, 1, few(basis, -single(2), guess=0.1), PLANS)
    assert start.words == "1/K"
    assert torch.equal(start.values, torch.full((4, 3), 0.25))
    assert start.ridge.tolist() == [[pytest.approx(usual_ridge(10))]] * 4, "and is held no more than it ever was"


def test_a_task_begins_from_a_stored_one_that_fits_better(basis: Basis) -> None:
    near, far = single(1) + 0.1, single(3)
    start = choose_start(basis, 1, few(basis, near, stored=[("far", far), ("near", near)]), PLANS)
    assert start.words == "task near"
    assert torch.equal(start.values, near)


def test_what_images_look_like_counts_where_labels_leave_it_open(basis: Basis) -> None:
    between = (single(0) + single(1)) / 2
    for likely in (0, 1):
        evidence = torch.full((4,), -50.0)
        evidence[likely] = 0.0
        start = choose_start(basis, 1, few(basis, 2 * between, evidence=evidence), PLANS)
        assert start.words.startswith(f"mask {likely}")


def test_the_start_has_a_column_for_each_group(basis: Basis) -> None:
    fine = few(basis, single(2))
    assert choose_start(basis, 4, fine, PLANS).values.shape == (4, 12)


@pytest.mark.parametrize("shots", [1, 5])
def test_few_images_begin_from_a_mask_and_say_so(shots: int, tmp_path: Path) -> None:
    bank = tmp_path / "a.impress"
    create_bank(bank, ["rotated-digits/0:360:90"], masks=Masks(density=0.2))
    fit, parts = TaskTraining(epochs=1, shots=shots), Parts(vote=False)
    (added,) = add_tasks(bank, ["rotated-digits/90"], name="same", fit=fit, parts=parts)
    assert added.begun_from == "mask 1 (rotated-digits/90)"
    (own,) = (one for one in evaluate(bank, basis=True) if one.task == "rotated-digits/90")
    assert added.accuracy > own.accuracy - 0.02
    (again,) = add_tasks(bank, ["rotated-digits/92"], fit=fit, parts=parts)
    assert again.begun_from in ("task same", "mask 1 (rotated-digits/90)")
    (every,) = add_tasks(bank, ["rotated-digits/94"], fit=TaskTraining(epochs=1))
    assert every.begun_from is None


def test_the_ridge_holds_coefficients_near_their_start(basis: Basis) -> None:
    backbone = build_backbone("lenet-300-100", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    data = load_task(parse_reference("permuted-digits/3"), data_dir=None)

    def moved(ridge: Tensor | float) -> Tensor:
        fit = TaskTraining(epochs=200, shots=5)
        alpha = trainable_alpha(basis, fit, 1, None, "float32", ridge=ridge)
        train_parts(backbone, [alpha], training_images(data, 5, 0), fit, on_step=lambda: None)
        apart: Tensor = (alpha.learned() - 0.25).norm(dim=1)
        return apart

    free, held = moved(0.0), moved(0.3)
    assert float(held.norm()) < 0.8 * float(free.norm())
    first = moved(torch.tensor([[3.0], [0.0], [0.0], [0.0]]))
    assert float(first[0]) < 0.2 * float(first[1:].max()), "a mask that is held more moves less"
