"""Norm layers folded into convolutions: the same answers and gradients, and the network itself untouched."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from impress_learn.network.folding import channels_last, fold_norms, freeze, trace

FOLDED = {
    "efficientnet_lite0": 49,  # norm layers with an activation inside
    "resnet18": 20,
    "mobilenetv3_small_050": 34,
    "densenet121": 59,  # half of its norms stand before the convolution that they belong to
    "resnetv2_50": 32,  # all of them do, and two of three behind another one
    "vit_tiny_patch16_224": 0,
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"img_size": 64} if name.startswith("vit") else {}
    module = timm.create_model(name, num_classes=5, **settings).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as training leaves them, not as they begin
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(0, 0.1)
    return module


def images() -> Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def norms_of(part: nn.Module) -> int:
    assert isinstance(part, fx.GraphModule)
    layers = dict(part.named_modules())
    called = [layers[str(node.target)] for node in part.graph.nodes if node.op == "call_module"]
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in called)


@pytest.mark.parametrize("name", FOLDED)
def test_answers_are_the_same_and_the_network_stays_as_it_is(name: str) -> None:
    module = network(name)
    tensors, modules = set(module.state_dict()), {path for path, _ in module.named_modules()}
    buffers = {path for path, _ in module.named_buffers()}
    with torch.no_grad():
        expected = module(images())
    frozen = freeze(module)
    assert frozen is not module
    all_norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())
    assert all_norms - norms_of(frozen) == FOLDED[name]
    with torch.no_grad():
        found = frozen(channels_last(images()))
        again = module(images())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(again, expected)
    assert (set(module.state_dict()), {path for path, _ in module.named_modules()}) == (tensors, modules)
    assert {path for path, _ in module.named_buffers()} == buffers


def gradients(module: nn.Module, weights: dict[str, Tensor], given: Tensor) -> dict[str, Tensor]:
    own = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    loss = functional_call(module, own, (given,)).square().sum()
    return dict(zip(own, torch.autograd.grad(loss, [*own.values()]), strict=True))


def test_weights_can_be_replaced_and_differentiated() -> None:
    module = network("efficientnet_lite0")
    part = fold_norms(fx.GraphModule(module, trace(module)))
    weights = {name: 1.1 * weight.detach() for name, weight in module.named_parameters() if weight.ndim == 4}
    expected, found = gradients(module, weights, images()), gradients(part, weights, channels_last(images()))
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm() / gradient.norm()) < 1e-3, name


def test_norm_layers_that_will_be_replaced_are_not_folded() -> None:
    module = network("resnet18")
    kept = {"layer4.1.bn2.weight", "layer4.1.bn2.bias"}
    part = fold_norms(fx.GraphModule(module, trace(module)), kept)
    assert norms_of(part) == 1
    shifted = {"layer4.1.bn2.bias": module.get_parameter("layer4.1.bn2.bias") + 1.0}
    with torch.no_grad():
        found, expected = functional_call(part, shifted, (images(),)), functional_call(module, shifted, (images(),))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


class Seen(nn.Module):
    """A convolution whose output is looked at beside its norm layer too, and one with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.second, self.other = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, given: Tensor) -> Tensor:
        between = self.first(given)
        found: Tensor = self.other(self.second(self.norm(between))) + between
        return found


def test_what_something_else_sees_is_not_folded() -> None:
    module = Seen().eval()
    part = fold_norms(fx.GraphModule(module, trace(module)))
    assert norms_of(part) == 2
    assert torch.equal(part(images()), module(images()))


class Deciding(nn.Module):
    def forward(self, given: Tensor) -> Tensor:
        return given if given.sum() > 0 else -given


def test_a_network_that_cannot_be_traced_stays_as_it_is() -> None:
    module = Deciding()
    assert freeze(module) is module
