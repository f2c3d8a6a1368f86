"""Selection without waiting for a device, and training in bfloat16: what a GPU does, here on the CPU."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from impress_learn.masks.top_k import _top_k_on_device, top_k_mask
from impress_learn.network.build import build_backbone
from impress_learn.network.norm_statistics import training_forward


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]), min_size=2, max_size=60), st.data())
def test_the_same_values_are_chosen_as_on_the_cpu_ties_too(values: list[float], data: st.DataObject) -> None:
    ones = data.draw(st.integers(1, len(values) - 1))
    flat = torch.tensor(values)
    assert torch.equal(_top_k_on_device(flat, ones), top_k_mask(flat, ones))


def test_bfloat16_moves_logits_by_its_rounding_and_gradients_stay_float32() -> None:
    backbone = build_backbone("timm:test_resnet", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 1, 28, 28, generator=generator)
    calibration = torch.randn(64, 1, 28, 28, generator=generator)
    weights = {name: weight.clone().requires_grad_() for name, weight in backbone.weights.items()}
    exact, halved = (
        training_forward(backbone, calibration, 3, bfloat16=bfloat16)(weights, images) for bfloat16 in (False, True)
    )
    assert halved.dtype == torch.float32
    assert 0 < float((halved - exact).detach().abs().max()) < 0.15 * float(exact.detach().std())
    halved.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in weights.values())
