"""Masks: exactly round(density * n) ones, the right ones, and found by training that changes nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from impress_format.errors import TrainingDiverged
from impress_format.records.network import BackboneSpec, LayerSpec
from impress_learn.masks.edge_popup import _EdgePopup, initial_scores, random_supermask, train_supermask
from impress_learn.masks.top_k import top_k_mask
from impress_learn.network.backbone import Backbone
from impress_learn.streams.images import Images
from impress_learn.training.config import MaskTraining

FloatArray = npt.NDArray[np.float32]

ABOVE_SAMPLING_THRESHOLD = 50_000


def reference_top_k(values: FloatArray, ones: int) -> npt.NDArray[np.bool_]:
    """The `ones` largest by a stable sort of all values, the lowest index first among equals."""
    mask = np.zeros(values.size, dtype=bool)
    mask[np.argsort(-values.astype(np.float64).reshape(-1), kind="stable")[:ones]] = True
    return mask.reshape(values.shape)


def spec_of(*shapes: tuple[int, ...]) -> BackboneSpec:
    """A spec with layers of these shapes, for functions that look at nothing else."""
    layers = tuple(LayerSpec(name=f"layer{index}.weight", shape=shape) for index, shape in enumerate(shapes))
    return BackboneSpec(
        arch="none", init="signed-constant", seed=0, input_shape=(1, 1, 1), classes=2, layers=layers, digest=""
    )


@given(
    values=hnp.arrays(
        np.float32, hnp.array_shapes(max_dims=4, max_side=8), elements=st.integers(-3, 3).map(lambda n: n / 2)
    ),
    share=st.floats(0.0, 1.0),
)
def test_top_k_is_a_stable_sort_for_any_shape_with_many_ties(values: FloatArray, share: float) -> None:
    ones = max(1, round(share * values.size))
    assert np.array_equal(top_k_mask(torch.from_numpy(values), ones).bool().numpy(), reference_top_k(values, ones))


@given(
    values=hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    data=st.data(),
)
def test_top_k_is_a_stable_sort_for_any_finite_values(values: FloatArray, data: st.DataObject) -> None:
    ones = data.draw(st.integers(1, values.size))
    assert np.array_equal(top_k_mask(torch.from_numpy(values), ones).bool().numpy(), reference_top_k(values, ones))


def _with_outliers(rng: np.random.Generator) -> FloatArray:
    """The 1,000 largest values stand side by side, where a regular sample sees few of them."""
    values = rng.random(ABOVE_SAMPLING_THRESHOLD, dtype=np.float32)
    values[3_000:4_000] += 10.0
    return values


N = ABOVE_SAMPLING_THRESHOLD
HARD: dict[str, Callable[[np.random.Generator], FloatArray]] = {
    "uniform": lambda rng: rng.random(N, dtype=np.float32),
    "ascending": lambda rng: np.arange(N, dtype=np.float32),
    "descending": lambda rng: np.arange(N, 0, -1).astype(np.float32),
    "constant": lambda rng: np.full(N, 0.25, dtype=np.float32),
    "two-values": lambda rng: (rng.random(N) < 0.1).astype(np.float32),
    "few-values": lambda rng: rng.integers(0, 7, N).astype(np.float32),
    "heavy-tail": lambda rng: np.abs(rng.standard_cauchy(N)).astype(np.float32) ** 2,
    "denormal": lambda rng: (rng.random(N) * 1e-40).astype(np.float32),
    "period-16-sampled-low": lambda rng: ((np.arange(N) % 16 != 0) + rng.random(N)).astype(np.float32),
    "period-16-sampled-high": lambda rng: ((np.arange(N) % 16 == 0) + rng.random(N)).astype(np.float32),
    "period-16-exact": lambda rng: (np.arange(N) % 16).astype(np.float32),
    "clustered": _with_outliers,
    "one-large": lambda rng: np.eye(1, N, 7, dtype=np.float32)[0],
    "infinite": lambda rng: np.where(rng.random(N) < 0.01, np.inf, rng.random(N)).astype(np.float32),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("share", [1 / N, 0.001, 0.05, 0.1, 0.5, 0.9375, 0.999, (N - 1) / N])
def test_top_k_is_a_stable_sort_where_a_sample_narrows_the_search(name: str, share: float) -> None:
    values = HARD[name](np.random.default_rng(7))
    ones = round(share * N)
    assert np.array_equal(top_k_mask(torch.from_numpy(values), ones).bool().numpy(), reference_top_k(values, ones))


@pytest.mark.parametrize("size", [16_383, 16_384, 16_385, 16_399, 16_400])
def test_top_k_is_a_stable_sort_on_both_sides_of_the_sampling_threshold(size: int) -> None:
    values = np.random.default_rng(size).integers(0, 5_000, size).astype(np.float32)
    for ones in (1, size // 10, size - 1, size):
        assert np.array_equal(top_k_mask(torch.from_numpy(values), ones).bool().numpy(), reference_top_k(values, ones))


@given(
    size=st.integers(16_384, 40_000),
    seed=st.integers(0, 2**32),
    distinct=st.sampled_from([2, 50, 10**6]),
    share=st.floats(0.0, 1.0),
)
def test_top_k_is_a_stable_sort_for_drawn_large_values(size: int, seed: int, distinct: int, share: float) -> None:
    values = np.random.default_rng(seed).integers(0, distinct, size).astype(np.float32)
    ones = max(1, round(share * size))
    assert np.array_equal(top_k_mask(torch.from_numpy(values), ones).bool().numpy(), reference_top_k(values, ones))


def test_ties_go_to_the_lowest_index() -> None:
    assert top_k_mask(torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0]), 3).tolist() == [1.0, 1.0, 0.0, 1.0, 0.0]
    assert top_k_mask(torch.full((20_000,), 3.0), 5).nonzero().flatten().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shape", [(6, 5, 3, 3), (32, 64, 3, 3)], ids=["selected", "sampled"])
def test_memory_layout_changes_nothing(shape: tuple[int, ...]) -> None:
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 50, shape).astype(np.float32))
    expected = torch.from_numpy(reference_top_k(values.numpy(), values.numel() // 3))
    strided = torch.empty(*shape[:-1], 2 * shape[-1])[..., ::2].copy_(values)
    transposed = values.transpose(0, 1).contiguous().transpose(0, 1)
    for same in (values, values.contiguous(memory_format=torch.channels_last), strided, transposed):
        assert torch.equal(same, values)
        assert torch.equal(top_k_mask(same, values.numel() // 3).bool(), expected)


def test_top_k_leaves_its_argument_as_it_was() -> None:
    values = torch.rand(40_000, generator=torch.Generator().manual_seed(0))
    before = values.clone()
    top_k_mask(values, 4_000)
    assert torch.equal(values, before)


@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=4).map(tuple),
    density=st.floats(0.0, 1.0, exclude_min=True),
    seed=st.integers(0, 2**53 - 1),
)
def test_random_masks_have_round_density_n_ones_and_one_at_least(
    shape: tuple[int, ...], density: float, seed: int
) -> None:
    mask = random_supermask(spec_of(shape), density=density, seed=seed)["layer0.weight"]
    assert mask.shape == shape
    assert mask.dtype == torch.bool
    assert int(mask.sum()) == max(1, round(density * math.prod(shape)))


def test_random_mask_is_the_same_on_every_machine(lenet: Backbone) -> None:
    masks = random_supermask(lenet.spec, density=0.1, seed=0)
    first = {name: mask.flatten().nonzero().flatten()[:6].tolist() for name, mask in masks.items()}
    assert first == {
        "fc1.weight": [12, 18, 19, 31, 33, 40],
        "fc2.weight": [2, 3, 15, 30, 32, 46],
        "fc3.weight": [1, 5, 13, 14, 15, 42],
    }


def test_random_masks_of_one_seed_are_equal_and_of_two_seeds_unrelated() -> None:
    spec = spec_of((100, 100))
    one, again, other = (random_supermask(spec, density=0.1, seed=seed)["layer0.weight"] for seed in (5, 5, 6))
    assert torch.equal(one, again)
    # Overlap of two random sets of 1,000 in 10,000: mean 100, deviation 9 (hypergeometric).
    assert abs(int((one & other).sum()) - 100) < 5 * 9


def test_random_masks_of_equal_layers_are_unrelated() -> None:
    masks = random_supermask(spec_of((100, 100), (100, 100)), density=0.1, seed=5)
    assert abs(int((masks["layer0.weight"] & masks["layer1.weight"]).sum()) - 100) < 5 * 9


def test_random_masks_are_uniform_over_positions() -> None:
    counts = np.zeros((8, 8))
    for seed in range(2_000):
        counts += random_supermask(spec_of((8, 8)), density=0.25, seed=seed)["layer0.weight"].numpy()
    # Chi-square with 63 degrees of freedom, scaled by n/(n-k) for sampling without replacement; 1e-5 quantile 125.
    assert ((counts - 500.0) ** 2 / 500.0).sum() / (1.0 - 0.25) * 63 / 64 < 125.0


def test_initial_scores_are_kaiming_uniform_with_a_sqrt_5() -> None:
    scores = initial_scores((400, 50, 2, 2), torch.Generator().manual_seed(0)).double().numpy()
    bound = 1.0 / math.sqrt(200)  # gain sqrt(2 / (1 + 5)) * sqrt(3 / fan_in), He et al. 2015
    assert np.abs(scores).max() <= bound * (1 + 1e-6)
    assert abs(scores.mean()) < 5 * bound / math.sqrt(3 * scores.size)
    assert scores.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)


@given(
    scores=hnp.arrays(np.float32, (5, 7), elements=st.integers(-20, 20).map(lambda n: n / 4)),
    ones=st.integers(1, 35),
    seed=st.integers(0, 1000),
)
def test_edge_popup_masks_forward_and_is_straight_through_backward(scores: FloatArray, ones: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, gradient = rng.standard_normal((2, 5, 7)).astype(np.float32)
    leaf = torch.from_numpy(scores).requires_grad_()
    effective = _EdgePopup.apply(leaf, torch.from_numpy(weight), ones)
    effective.backward(torch.from_numpy(gradient))
    assert np.array_equal(effective.detach().numpy(), weight * reference_top_k(np.abs(scores), ones))
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad.numpy(), gradient * weight * np.sign(scores), rtol=1e-6)


def train(lenet: Backbone, images: Images, **changes: float | int) -> dict[str, Tensor]:
    """A short training; `changes` to its settings."""
    density, score_seed = changes.pop("density", 0.1), int(changes.pop("score_seed", 1))
    fit = MaskTraining(**{"epochs": 1, "seed": 2, **changes})  # type: ignore[arg-type]
    return train_supermask(lenet, images, fit, density=density, score_seed=score_seed, on_step=lambda: None)


@pytest.fixture(scope="module")
def few(digits: tuple[Images, Images]) -> Images:
    """The first 600 digits."""
    return digits[0].subset(torch.arange(600))


def test_training_finds_a_mask_far_above_chance_and_leaves_the_weights(
    lenet: Backbone, few: Images, digits: tuple[Images, Images]
) -> None:
    before = {name: weight.clone() for name, weight in lenet.weights.items()}
    masks = train(lenet, few, epochs=12)
    images, labels = digits[1].batch(slice(None))
    effective = {name: weight * masks[name] for name, weight in lenet.weights.items()}
    assert float((lenet(effective, images).argmax(1) == labels).double().mean()) > 0.6
    assert all(torch.equal(weight, before[name]) for name, weight in lenet.weights.items())


@pytest.mark.parametrize("density", [1e-6, 0.037, 0.5, 1.0])
def test_trained_masks_have_round_density_n_ones_a_layer(lenet: Backbone, few: Images, density: float) -> None:
    masks = train(lenet, few.subset(torch.arange(64)), density=density)
    expected = [max(1, round(density * n)) for n in (235_200, 30_000, 1_000)]
    assert [int(mask.sum()) for mask in masks.values()] == expected
    assert all(mask.dtype == torch.bool for mask in masks.values())


def test_training_is_decided_by_its_two_seeds(lenet: Backbone, few: Images) -> None:
    base = train(lenet, few)["fc1.weight"]
    torch.manual_seed(99)
    assert torch.equal(train(lenet, few)["fc1.weight"], base)
    assert not torch.equal(train(lenet, few, score_seed=9)["fc1.weight"], base)
    assert not torch.equal(train(lenet, few, seed=9)["fc1.weight"], base)


def test_on_step_is_called_once_for_every_whole_batch_of_every_epoch(lenet: Backbone, few: Images) -> None:
    calls: list[None] = []
    train_supermask(
        lenet,
        few,
        MaskTraining(epochs=2, batch_size=256),
        density=0.1,
        score_seed=0,
        on_step=lambda: calls.append(None),
    )
    assert len(calls) == 2 * (600 // 256)


@pytest.mark.parametrize("bad_step", [1, 3, 25, 26, 27])
def test_loss_that_becomes_nan_names_the_step_and_lr(
    lenet: Backbone, few: Images, bad_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = lenet.module.forward
    calls: list[None] = []

    def sometimes_nan(images: Tensor) -> Tensor:
        calls.append(None)
        logits: Tensor = forward(images)
        return logits * float("nan") if len(calls) == bad_step else logits

    monkeypatch.setattr(lenet.module, "forward", sometimes_nan)
    with pytest.raises(TrainingDiverged, match=rf"diverged at step {bad_step}: (?s:.*)`lr` 0\.4"):
        train(lenet, few, epochs=3)
