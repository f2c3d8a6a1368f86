"""Learning alpha: where it starts, what it minimises, and that it is worth the while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from impress_format.errors import TrainingDiverged
from impress_learn.masks.basis import Basis, effective_weights, make_basis
from impress_learn.masks.edge_popup import random_supermask, train_supermask
from impress_learn.network.backbone import Backbone
from impress_learn.running.accuracy import accuracy
from impress_learn.streams.images import Images, transformed
from impress_learn.streams.rotated import rotate
from impress_learn.tasks import weights as alpha_module
from impress_learn.tasks.weights import fit_alpha
from impress_learn.training.config import MaskTraining, TaskTraining


@pytest.fixture(scope="module")
def basis(lenet: Backbone) -> Basis:
    """Five random masks: enough for all that is arithmetic."""
    return make_basis(lenet, [random_supermask(lenet.spec, density=0.1, seed=seed) for seed in range(5)])


@pytest.fixture(scope="module")
def few(digits: tuple[Images, Images]) -> Images:
    """The first 256 digits."""
    return digits[0].subset(torch.arange(256))


def fit(lenet: Backbone, basis: Basis, images: Images, **changes: Any) -> Tensor:
    """A short fit; `changes` to its settings."""
    granularity = changes.pop("granularity", 1)
    settings = TaskTraining(**{"epochs": 1, "batch_size": 64, **changes})
    return fit_alpha(lenet, basis, images, settings, granularity=granularity, on_step=lambda: None)


class Caught:
    """Stands in for the training loop and keeps what it was given."""

    parameters: Sequence[Tensor]
    penalty: Callable[[], Tensor] | None

    def __call__(self, _: object, parameters: Sequence[Tensor], *args: object, **given: Any) -> None:
        self.parameters, self.penalty = parameters, given["penalty"]


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Caught:
    loop = Caught()
    monkeypatch.setattr(alpha_module, "minimise", loop)
    return loop


@pytest.mark.parametrize(("granularity", "columns"), [(1, 3), (16, 16 + 16 + 10), (10**6, 300 + 100 + 10)])
def test_alpha_starts_at_one_over_k(
    lenet: Backbone, basis: Basis, few: Images, caught: Caught, granularity: int, columns: int
) -> None:
    assert torch.equal(fit(lenet, basis, few, granularity=granularity), torch.full((5, columns), 0.2))


def test_alpha_stays_at_its_start_at_a_vanishing_learning_rate(lenet: Backbone, basis: Basis, few: Images) -> None:
    torch.testing.assert_close(fit(lenet, basis, few, lr=1e-9), torch.full((5, 3), 0.2), rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("l1", [0.005, 1.0])
def test_penalty_is_the_sum_over_layers_of_the_squared_distance_of_the_norm_from_one(
    lenet: Backbone, basis: Basis, few: Images, caught: Caught, l1: float
) -> None:
    fit(lenet, basis, few, l1=l1)
    (alpha,) = caught.parameters
    drawn = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    alpha.data = torch.from_numpy(drawn)
    assert caught.penalty is not None
    value = caught.penalty()
    value.backward()

    norms = np.abs(drawn.astype(np.float64)).sum(0)
    assert value.item() == pytest.approx(l1 * ((norms - 1.0) ** 2).sum(), rel=1e-5)
    assert alpha.grad is not None
    np.testing.assert_allclose(alpha.grad.numpy(), l1 * 2.0 * (norms - 1.0) * np.sign(drawn), rtol=1e-4, atol=1e-7)


def test_penalty_at_finer_granularity_is_the_mean_over_a_layers_groups(
    lenet: Backbone, basis: Basis, few: Images, caught: Caught
) -> None:
    fit(lenet, basis, few, l1=0.5, granularity=16)
    (alpha,) = caught.parameters
    drawn = np.random.default_rng(1).standard_normal((5, 42)).astype(np.float32)
    alpha.data = torch.from_numpy(drawn)
    assert caught.penalty is not None
    squares = (np.abs(drawn.astype(np.float64)).sum(0) - 1.0) ** 2
    expected = 0.5 * (squares[:16].mean() + squares[16:32].mean() + squares[32:].mean())
    assert caught.penalty().item() == pytest.approx(expected, rel=1e-5)


def test_penalty_draws_the_norms_to_one(lenet: Backbone, basis: Basis, few: Images) -> None:
    free = fit(lenet, basis, few, epochs=10, lr=0.1)
    held = fit(lenet, basis, few, epochs=10, lr=0.1, l1=10.0)
    assert float((free.abs().sum(0) - 1.0).abs().max()) > 0.1
    assert float((held.abs().sum(0) - 1.0).abs().max()) < float((free.abs().sum(0) - 1.0).abs().max()) / 2


def test_the_seed_decides_the_result_and_the_global_seed_does_not(lenet: Backbone, basis: Basis, few: Images) -> None:
    first = fit(lenet, basis, few, seed=3)
    torch.manual_seed(77)
    assert torch.equal(fit(lenet, basis, few, seed=3), first)
    assert not torch.equal(fit(lenet, basis, few, seed=4), first)


def test_learning_leaves_weights_and_basis_as_they_were(lenet: Backbone, basis: Basis, few: Images) -> None:
    weights = {name: weight.clone() for name, weight in lenet.weights.items()}
    masks = [basis.one(index) for index in range(len(basis))]
    masks = [{name: weight.clone() for name, weight in mask.items()} for mask in masks]
    result = fit(lenet, basis, few)
    assert not result.requires_grad
    assert all(torch.equal(weight, weights[name]) for name, weight in lenet.weights.items())
    for index, before in enumerate(masks):
        assert all(torch.equal(weight, before[name]) for name, weight in basis.one(index).items())


@pytest.mark.parametrize("granularity", [1, 16])
def test_learned_alpha_is_right_more_often_than_uniform_alpha_on_a_new_rotation(
    trained_basis: Basis, lenet: Backbone, digits: tuple[Images, Images], granularity: int
) -> None:
    images = transformed(digits[0].subset(torch.arange(600)), lambda pixels: rotate(pixels, 40))
    columns = 3 if granularity == 1 else 42
    uniform = torch.full((len(trained_basis), columns), 1.0 / len(trained_basis))
    learned = fit(lenet, trained_basis, images, epochs=15, granularity=granularity)
    before = accuracy(lenet, effective_weights(trained_basis, uniform, granularity), images)
    after = accuracy(lenet, effective_weights(trained_basis, learned, granularity), images)
    assert after > before + 0.1


@pytest.fixture(scope="module")
def trained_basis(lenet: Backbone, digits: tuple[Images, Images]) -> Basis:
    """Three masks for the digits turned by 0, 60 and 300 degrees, shortly trained."""
    few = digits[0].subset(torch.arange(512))

    def mask(degrees: int) -> dict[str, Tensor]:
        turned = transformed(few, lambda pixels: rotate(pixels, degrees))
        fit = MaskTraining(epochs=6, seed=degrees + 1)
        return train_supermask(lenet, turned, fit, density=0.1, score_seed=degrees, on_step=lambda: None)

    return make_basis(lenet, [mask(degrees) for degrees in (0, 60, 300)])


def test_absurd_learning_rate_diverges_with_step_and_lr_in_the_message(
    lenet: Backbone, basis: Basis, few: Images
) -> None:
    with pytest.raises(TrainingDiverged, match=r"diverged at step \d+: (?s:.*)lr 1e\+30(?s:.*)`lr` 1e\+29"):
        fit(lenet, basis, few, epochs=10, lr=1e30)
