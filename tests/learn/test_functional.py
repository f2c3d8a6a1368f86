"""A module that is called with other tensors has its own again afterwards, whatever names they have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from impress_learn.network.build import build_backbone
from impress_learn.network.functional import functional_call


class Shared(nn.Module):
    """One layer and one norm under two names each, and a second layer that shares the first one's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.again = self.first
        self.tied = nn.Linear(2, 2, bias=False)
        self.tied.weight = self.first.weight
        self.norm = nn.BatchNorm1d(2, affine=False)
        self.norm_again = self.norm

    def forward(self, images: Tensor) -> Tensor:
        normalised: Tensor = self.norm_again(self.norm(self.tied(self.again(self.first(images)))))
        return normalised


@pytest.mark.parametrize("name", ["first.weight", "tied.weight"])
def test_a_tensor_is_replaced_wherever_it_is_and_comes_back(name: str) -> None:
    module = Shared().eval()
    before = {key: (tensor, tensor.clone()) for key, tensor in module.state_dict(keep_vars=True).items()}
    replaced = {name: 2 * torch.eye(2), "norm.running_var": torch.full((2,), 4 - module.norm.eps)}
    with torch.no_grad():
        found = functional_call(module, replaced, (torch.ones(1, 2),))
    assert found.tolist() == [[2.0, 2.0]]  # 2 · 2 · 2 / √4 / √4
    for key, tensor in module.state_dict(keep_vars=True).items():
        assert tensor is before[key][0], key
        assert torch.equal(tensor, before[key][1]), key


def test_statistics_are_filled_in_place() -> None:
    module = Shared().train()
    statistics = {"norm.running_mean": torch.zeros(2), "norm.running_var": torch.ones(2)}
    functional_call(module, statistics, (torch.randn(8, 2),))
    assert statistics["norm.running_mean"].abs().sum() > 0
    assert module.norm.running_mean is not None
    assert module.norm.running_mean.tolist() == [0.0, 0.0]


def test_a_network_with_layers_of_two_names_keeps_its_weights() -> None:
    """torch's own call leaves the last effective weights behind in CoaT's encodings."""
    coat = build_backbone("timm:coat_tiny", init="signed-constant", seed=0, input_shape=(1, 32, 32), classes=10)
    before = {name: tensor.clone() for name, tensor in coat.module.state_dict().items()}
    coat({name: (0.5 * weight).requires_grad_() for name, weight in coat.weights.items()}, torch.ones(1, 1, 32, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in coat.module.state_dict().items())
    assert coat.to(torch.device("meta")).spec == coat.spec  # what holds a graph of gradients cannot be copied
