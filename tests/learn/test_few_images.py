"""Learning from few images: small changes of them, and a ridge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from impress_learn.masks.basis import make_basis
from impress_learn.masks.edge_popup import random_supermask
from impress_learn.network.build import build_backbone
from impress_learn.streams.jitter import jitter
from impress_learn.streams.load import load_task, training_images
from impress_learn.streams.reference import parse_reference
from impress_learn.tasks.weights import fit_alpha
from impress_learn.training.config import TaskTraining


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


def test_the_ridge_holds_coefficients_near_their_start() -> None:
    backbone = build_backbone("lenet-300-100", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    basis = make_basis(backbone, [random_supermask(backbone.spec, density=0.5, seed=seed) for seed in range(4)])
    data = load_task(parse_reference("permuted-digits/3"), data_dir=None)

    def apart(shots: int | None) -> float:
        images = training_images(data, 5, 0)
        fit = TaskTraining(epochs=200, shots=shots)
        return float((fit_alpha(backbone, basis, images, fit, granularity=1, on_step=lambda: None) - 0.25).norm())

    assert apart(5) < 0.8 * apart(None)
