"""Effective weights (Eq. 1) and their gradient against loops in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from impress_format.records.network import BackboneSpec, LayerSpec
from impress_learn.masks.basis import (
    Basis,
    Kept,
    effective_of_tasks,
    effective_weights,
    keep_masks,
    layer_columns,
    make_basis,
    slopes_of_tasks,
)
from impress_learn.masks.coded_masks import CodedMasks, code_masks
from impress_learn.masks.layer_masks import PackedMasks, StackedMasks, group_of_channel, pack_masks
from impress_learn.network.backbone import Backbone

SHAPES = {"linear.weight": (10, 7), "conv.weight": (6, 3, 3, 2), "depthwise.weight": (5, 1, 3, 3), "one.weight": (1, 4)}
GRANULARITIES = [1, 2, 3, 7, 10**6]
FloatArray = npt.NDArray[np.float64]


@pytest.fixture(scope="module", params=["stacked", "packed", "coded"], autouse=True)
def in_memory(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything here holds of masks unpacked, of masks packed, a few channels at a time, and of masks looked up."""
    with pytest.MonkeyPatch.context() as patched:
        if request.param == "packed":
            patched.setattr("impress_learn.masks.basis.AT_MOST", -1)
            patched.setattr("impress_learn.masks.layer_masks._AT_ONCE", 8 * 21)
        patched.setattr("impress_learn.masks.basis.CODED_FROM", 1 if request.param == "coded" else 10**9)
        yield request.param


def backbone_of(rng: np.random.Generator) -> Backbone:
    """Weights of several shapes; its module is never run."""
    layers = tuple(LayerSpec(name=name, shape=shape) for name, shape in SHAPES.items())
    spec = BackboneSpec(
        arch="none", init="kaiming-normal", seed=0, input_shape=(1, 1, 1), classes=2, layers=layers, digest=""
    )
    weights = {name: torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for name, shape in SHAPES.items()}
    return Backbone(spec=spec, module=nn.Identity(), weights=weights)


def draw(masks: int, granularity: int, seed: int = 0) -> tuple[Backbone, list[dict[str, Tensor]], Tensor]:
    """A backbone, `masks` supermasks, and an alpha with a column for each group."""
    rng = np.random.default_rng(seed)
    backbone = backbone_of(rng)
    supermasks = [
        {name: torch.from_numpy(rng.random(shape) < 0.4) for name, shape in SHAPES.items()} for _ in range(masks)
    ]
    columns = sum(min(granularity, shape[0]) for shape in SHAPES.values())
    return backbone, supermasks, torch.from_numpy(rng.standard_normal((masks, columns)).astype(np.float32))


def column_of(name: str, channel: int, granularity: int) -> int:
    """Column of alpha by docs/format.md: layers in order, channel c in column floor(c * g / out)."""
    start = 0
    for layer, shape in SHAPES.items():
        groups = min(granularity, shape[0])
        if layer == name:
            return start + math.floor(channel * groups / shape[0])
        start += groups
    raise AssertionError(name)


def looped(
    backbone: Backbone, supermasks: list[dict[str, Tensor]], alpha: Tensor, granularity: int, name: str
) -> FloatArray:
    """sum_k alpha_k M_k W of one layer, one mask and one output channel after the other."""
    weight = backbone.weights[name].double().numpy()
    total = np.zeros_like(weight)
    for k, masks in enumerate(supermasks):
        for channel in range(weight.shape[0]):
            coefficient = float(alpha[k, column_of(name, channel, granularity)])
            total[channel] += coefficient * masks[name][channel].numpy() * weight[channel]
    return total


@pytest.mark.parametrize("masks", range(1, 10))
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_effective_weights_equal_a_loop_over_masks_and_channels(masks: int, granularity: int) -> None:
    backbone, supermasks, alpha = draw(masks, granularity)
    effective = effective_weights(make_basis(backbone, supermasks), alpha, granularity)
    assert list(effective) == list(SHAPES)
    for name, shape in SHAPES.items():
        assert effective[name].shape == shape
        np.testing.assert_allclose(
            effective[name].double().numpy(),
            looped(backbone, supermasks, alpha, granularity, name),
            rtol=1e-5,
            atol=1e-5,
        )


@pytest.mark.parametrize("masks", [1, 2, 9])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_gradient_of_alpha_is_the_product_of_each_masked_layer_with_the_weights_gradient(
    masks: int, granularity: int
) -> None:
    backbone, supermasks, alpha = draw(masks, granularity)
    rng = np.random.default_rng(1)
    upstream = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    leaf = alpha.clone().requires_grad_()
    effective = effective_weights(make_basis(backbone, supermasks), leaf, granularity)
    torch.autograd.backward(list(effective.values()), [torch.from_numpy(upstream[name]) for name in effective])

    expected = np.zeros(tuple(alpha.shape))
    for k, layers in enumerate(supermasks):
        for name, shape in SHAPES.items():
            product = layers[name].numpy() * backbone.weights[name].double().numpy() * upstream[name]
            for channel in range(shape[0]):
                expected[k, column_of(name, channel, granularity)] += product[channel].sum()
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad.double().numpy(), expected, rtol=1e-4, atol=1e-5)


@given(out=st.integers(1, 300), share=st.floats(0.0, 1.0))
def test_groups_are_contiguous_and_their_sizes_differ_by_at_most_one(out: int, share: float) -> None:
    groups = max(1, round(share * out))
    group = group_of_channel(out, groups).numpy()
    sizes = np.bincount(group, minlength=groups)
    assert len(group) == out
    assert np.all(np.diff(group) >= 0)
    assert len(sizes) == groups
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_columns_of_a_layer_are_the_granularity_but_at_most_its_channels(granularity: int) -> None:
    backbone, supermasks, _ = draw(1, granularity)
    basis = make_basis(backbone, supermasks)
    assert layer_columns(basis, granularity) == tuple(min(granularity, shape[0]) for shape in SHAPES.values())


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("chosen", [0, 2])
def test_one_hot_alpha_gives_exactly_that_masks_weights(granularity: int, chosen: int) -> None:
    backbone, supermasks, alpha = draw(4, granularity)
    one_hot = torch.zeros_like(alpha)
    one_hot[chosen] = 1.0
    effective = effective_weights(make_basis(backbone, supermasks), one_hot, granularity)
    for name, weight in backbone.weights.items():
        assert np.array_equal(effective[name].numpy(), np.where(supermasks[chosen][name].numpy(), weight.numpy(), 0.0))


@pytest.mark.parametrize("masks", [1, 3, 7])
def test_uniform_alpha_over_equal_masks_gives_that_mask(masks: int) -> None:
    backbone, supermasks, alpha = draw(1, 1)
    basis = make_basis(backbone, supermasks * masks)
    effective = effective_weights(basis, torch.full((masks, alpha.shape[1]), 1.0 / masks))
    for name, weight in backbone.weights.items():
        expected = np.where(supermasks[0][name].numpy(), weight.numpy(), 0.0)
        np.testing.assert_allclose(effective[name].numpy(), expected, rtol=1e-6)


@given(layer=st.sampled_from(list(SHAPES)), change=st.floats(0.5, 3.0), mask=st.integers(0, 2))
def test_a_coefficient_of_one_layer_changes_that_layer_alone(layer: str, change: float, mask: int) -> None:
    backbone, supermasks, alpha = draw(3, 1)
    basis = make_basis(backbone, supermasks)
    weight_delta = alpha.clone()
    weight_delta[mask, list(SHAPES).index(layer)] += change
    before, after = effective_weights(basis, alpha), effective_weights(basis, weight_delta)
    assert [name for name in SHAPES if not torch.equal(before[name], after[name])] == [layer]


def test_a_basis_knows_its_length_and_its_first_masks() -> None:
    backbone, supermasks, alpha = draw(5, 1)
    basis: Basis = make_basis(backbone, supermasks)
    assert len(basis) == 5
    assert len(basis.first(3)) == 3
    short = effective_weights(basis.first(3), alpha[:3])
    for name in SHAPES:
        np.testing.assert_allclose(
            short[name].double().numpy(), looped(backbone, supermasks[:3], alpha, 1, name), rtol=1e-5, atol=1e-5
        )


def test_masks_are_kept_as_asked(in_memory: str) -> None:
    backbone, supermasks, _ = draw(masks=3, granularity=1)
    kind = {"packed": PackedMasks, "coded": CodedMasks, "stacked": StackedMasks}[in_memory]
    assert all(isinstance(masks, kind) for masks in make_basis(backbone, supermasks).layers.values())


def test_packed_masks_take_a_bit_a_weight() -> None:
    masks = pack_masks([torch.rand(4, 6) < 0.5 for _ in range(17)], torch.randn(4, 6))
    assert masks.ones.numel() * masks.ones.element_size() == 3 * 4 * 6
    assert masks.negative is None


@pytest.mark.parametrize("granularity", [1, 3])
def test_signed_masks_and_their_gradient(granularity: int) -> None:
    backbone, _, alpha = draw(masks=11, granularity=granularity)
    rng = np.random.default_rng(1)
    mixed: list[dict[str, Tensor]] = [
        {name: torch.from_numpy(rng.integers(-1, 2, shape).astype(np.int8)) for name, shape in SHAPES.items()}
        for _ in range(10)
    ]
    mixed.append({name: mask > 0 for name, mask in mixed[0].items()})
    leaf = alpha.clone().requires_grad_()
    effective = effective_weights(make_basis(backbone, mixed), leaf, granularity)
    upstream = {name: torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for name, shape in SHAPES.items()}
    sum((effective[name] * upstream[name]).sum() for name in SHAPES).backward()  # type: ignore[union-attr]
    expected = np.zeros(alpha.shape)
    for name, shape in SHAPES.items():
        weight = backbone.weights[name].double().numpy()
        for channel in range(shape[0]):
            column = column_of(name, channel, granularity)
            factors = np.stack([mask[name][channel].double().numpy() for mask in mixed])
            found = np.tensordot(alpha[:, column].double().numpy(), factors, 1) * weight[channel]
            np.testing.assert_allclose(effective[name][channel].detach().numpy(), found, rtol=1e-4, atol=1e-5)
            expected[:, column] += (
                (factors * weight[channel] * upstream[name][channel].double().numpy()).reshape(len(mixed), -1).sum(1)
            )
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("masks", [1, 3, 17])
def test_many_tasks_at_once_are_each_as_alone_and_so_are_their_gradients(masks: int, granularity: int) -> None:
    backbone, supermasks, first = draw(masks, granularity)
    basis, alphas = make_basis(backbone, supermasks), torch.stack([first, -2 * first, first.flip(0)])
    together = effective_of_tasks(basis, alphas, granularity)
    towards = {
        name: torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)) for name, shape in SHAPES.items()
    }
    slopes = slopes_of_tasks(basis, towards, granularity)
    for task, alpha in enumerate(alphas):
        alone = effective_weights(basis, leaf := alpha.clone().requires_grad_(), granularity)
        sum(((alone[name] * towards[name][task]).sum() for name in SHAPES), torch.zeros(())).backward()
        for name in SHAPES:
            torch.testing.assert_close(together[name][task], alone[name].detach())
        torch.testing.assert_close(slopes[task], leaf.grad, rtol=1e-4, atol=1e-4)


def test_how_masks_are_kept_depends_on_how_many_they_are() -> None:
    def kept(masks: int, weights: int, device: str = "cpu", *, real: bool = False, signed: bool = False) -> Kept:
        return keep_masks(masks, weights, real=real, signed=signed, device=torch.device(device))

    with pytest.MonkeyPatch.context() as patched:
        patched.undo()
        patched.setattr("impress_learn.masks.basis.AT_MOST", 1 << 30)
        patched.setattr("impress_learn.masks.basis.CODED_FROM", 17)
        assert kept(16, 266_200) == Kept("stacked", 4 * 16 * 266_200)
        assert kept(100, 266_200) == Kept("coded", 4 * 9 * 266_200)  # 12 masks in a number of 4 bytes
        assert kept(100, 266_200, signed=True) == Kept("coded", 4 * 15 * 266_200)  # 7
        assert kept(100, 266_200, "cuda") == Kept("stacked", 4 * 100 * 266_200)
        assert kept(100, 266_200, real=True).how == "stacked"
        assert kept(100, 11_000_000) == Kept("coded", 4 * 9 * 11_000_000)
        assert kept(100, 11_000_000, "cuda") == Kept("packed", 100 * 11_000_000 // 8)
        assert kept(1_000, 11_000_000, signed=True) == Kept("packed", 1_000 * 11_000_000 // 4)


def test_masks_that_are_looked_up_are_so_many_to_a_number() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = [torch.rand(40, 30, generator=generator) < 0.1 for _ in range(25)]
    coded = code_masks(masks, torch.ones(40, 30))
    assert coded.codes.shape == (3, 40, 30)
    assert coded.each == 9
    for index, mask in enumerate(masks):
        assert torch.equal(coded.one(index), mask.float())
    empty = coded.codes[0][~torch.stack(masks[:9]).any(0)]
    assert int(empty.bincount().max()) < len(empty) / 20  # no place has many weights that wait for each other
