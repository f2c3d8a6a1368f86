"""How a mask's ones are shared out to the layers: uniform, and Erdős–Rényi."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
from hypothesis import given, settings
from hypothesis import strategies as st

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.errors import FormatError
from impress_format.operations.create import write_plan
from impress_format.records.masks import supermask_sizes
from impress_format.records.network import LayerSpec

SHAPES = st.lists(
    st.one_of(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 40)] * 2, *[st.integers(1, 5)] * 2)),
    min_size=1,
    max_size=12,
)
RESNET_NF20 = ((20, 3, 3, 3), (20, 20, 3, 3), (40, 20, 3, 3), (160, 160, 3, 3), (5, 160))


def layers_of(shapes: list[tuple[int, ...]] | tuple[tuple[int, ...], ...]) -> tuple[LayerSpec, ...]:
    return tuple(LayerSpec(name=f"layer{index}", shape=shape) for index, shape in enumerate(shapes))


def filled(shapes: list[tuple[int, ...]], density: float) -> np.ndarray:
    """min(most, s * (o + i)) of the authors' code, its multiplier s found by halving an interval."""
    sizes = np.array([np.prod(shape) for shape in shapes], dtype=float)
    wishes = np.array([shape[0] + shape[1] for shape in shapes], dtype=float)
    most = sizes * max(0.5, density)
    low, high = 0.0, float((most / wishes).max())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(most, middle * wishes).sum() < density * sizes.sum() else (low, middle)
    return np.minimum(most, high * wishes)


@settings(max_examples=200)
@given(shapes=SHAPES, density=st.floats(0.01, 1.0))
def test_erdos_renyi_is_the_authors_multiplier_that_gives_this_density(
    shapes: list[tuple[int, ...]], density: float
) -> None:
    found = np.array(supermask_sizes(layers_of(shapes), density, "erdos-renyi"))
    expected = np.maximum(filled(shapes, density), 1)
    assert (np.abs(found - expected) <= 1).all()  # rounded down, to at least one


def test_small_layers_of_a_resnet_are_denser() -> None:
    layers = layers_of(RESNET_NF20)
    densities = [
        ones / layer.size for ones, layer in zip(supermask_sizes(layers, 0.3, "erdos-renyi"), layers, strict=True)
    ]
    assert densities == [*sorted(densities[:-1], reverse=True), 0.5]
    assert densities[0] == 0.5
    ones = sum(supermask_sizes(layers, 0.3, "erdos-renyi"))
    assert ones == pytest.approx(0.3 * sum(layer.size for layer in layers), abs=len(layers))


def test_a_dense_mask_is_dense_everywhere() -> None:
    layers = layers_of(RESNET_NF20)
    assert supermask_sizes(layers, 0.75, "erdos-renyi") == tuple(layer.size * 3 // 4 for layer in layers)


def er_bank(path: Path) -> Bank:
    plan = msgspec.structs.replace(small_bank.PLANS[0], density=0.3, allocation="erdos-renyi")
    return write_plan(path, small_bank.manifest(plans=(plan,)))


def test_a_bank_keeps_it_and_holds_its_masks_to_it(tmp_path: Path) -> None:
    bank = er_bank(tmp_path / "a.impress")
    layers = bank.backbone.masked_layers
    sizes = supermask_sizes(layers, 0.3, "erdos-renyi")
    assert sizes != supermask_sizes(layers, 0.3)
    masks = {
        layer.name: (np.arange(layer.size) < ones).reshape(layer.shape)
        for layer, ones in zip(layers, sizes, strict=True)
    }
    bank.write_mask(0, masks, 0.5)
    again = open_bank(bank.path)
    assert again.manifest.masks[0].allocation == "erdos-renyi"
    assert all(np.array_equal(again.read_mask(0)[1][name], mask) for name, mask in masks.items())
    assert verify_bank(bank.path).ok


def test_a_mask_of_another_allocation_is_refused(tmp_path: Path) -> None:
    bank = er_bank(tmp_path / "a.impress")
    uniform = supermask_sizes(bank.backbone.masked_layers, 0.3)
    masks = {
        layer.name: (np.arange(layer.size) < ones).reshape(layer.shape)
        for layer, ones in zip(bank.backbone.masked_layers, uniform, strict=True)
    }
    with pytest.raises(FormatError, match="ones, expected"):
        bank.write_mask(0, masks, 0.5)
