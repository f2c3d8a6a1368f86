"""A basis and alpha -> effective weights (ImpressLearn, Eq. 1), at any granularity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impress_learn.network.backbone import Backbone


@dataclass(frozen=True)
class Basis:
    """K supermasks laid over the frozen weights, ready to be combined.

    Attributes:
        masked_weights: for each layer, M_k * W as float32 of shape (K, out_channels, fan_in).
        shapes: the shape of each layer's weights.
    """

    masked_weights: dict[str, Tensor]
    shapes: dict[str, torch.Size]

    def __len__(self) -> int:
        return len(next(iter(self.masked_weights.values())))

    @property
    def device(self) -> torch.device:
        return next(iter(self.masked_weights.values())).device

    def one(self, index: int) -> dict[str, Tensor]:
        """Effective weights under one mask alone."""
        return {name: stack[index].reshape(self.shapes[name]) for name, stack in self.masked_weights.items()}

    def but_last(self) -> Basis:
        """The basis without the last layer, sharing memory."""
        layers = list(self.masked_weights)[:-1]
        return Basis({name: self.masked_weights[name] for name in layers}, {name: self.shapes[name] for name in layers})

    def first(self, count: int) -> Basis:
        """The basis of the first `count` masks, sharing memory."""
        return Basis({name: stack[:count] for name, stack in self.masked_weights.items()}, self.shapes)


def make_basis(backbone: Backbone, supermasks: Sequence[Mapping[str, Tensor]]) -> Basis:
    """Stack supermasks (tensors by layer, as train_supermask returns them) on the backbone's device."""
    masked = {}
    for name, weight in backbone.weights.items():
        empty = torch.zeros(0, *weight.shape, dtype=torch.bool)
        layers = [mask[name] for mask in supermasks]
        if len({layer.dtype for layer in layers}) > 1:  # of several types: each is a factor of the weights
            layers = [layer.float() for layer in layers]
        stack = torch.stack(layers) if layers else empty
        stack = stack.to(weight.device)
        masked[name] = (stack * weight).flatten(2) if weight.dim() > 2 else stack * weight
    return Basis(masked, {name: weight.shape for name, weight in backbone.weights.items()})


def effective_weights(basis: Basis, alpha: Tensor, granularity: int = 1) -> dict[str, Tensor]:
    """W_eff,i = (sum_k alpha_{k,i} M_{k,i}) * W_i for every layer; differentiable in alpha.

    Args:
        alpha: (K, columns): one column a layer at granularity 1; with G groups of output channels, min(G, out)
            columns a layer, in layer order. Channel c of a layer belongs to group floor(c * groups / out).
    """
    effective = {}
    start = 0
    for name, stack in basis.masked_weights.items():
        out = stack.shape[1]
        groups = min(granularity, out)
        coefficients = alpha[:, start : start + groups]
        start += groups
        if groups == 1:
            combined = (coefficients.T @ stack.flatten(1)).reshape(out, -1)
        else:
            channels = coefficients[:, group_of_channel(out, groups, alpha.device)]
            combined = torch.einsum("ko,koi->oi", channels, stack)
        effective[name] = combined.reshape(basis.shapes[name])
    return effective


def group_of_channel(out: int, groups: int, device: torch.device | None = None) -> Tensor:
    """Group of each output channel: contiguous groups whose sizes differ by at most one."""
    return torch.arange(out, device=device) * groups // out


def refine(alpha: Tensor, channels: Sequence[int], granularity: int, finer: int) -> Tensor:
    """The same coefficients (..., columns) with a column for each finer group, which lies within a coarser one."""
    parts, start = [], 0
    for out in channels:
        coarse, fine = min(granularity, out), min(finer, out)
        first_channel = torch.searchsorted(group_of_channel(out, fine), torch.arange(fine))
        parts.append(alpha[..., start : start + coarse][..., group_of_channel(out, coarse)[first_channel]])
        start += coarse
    return torch.cat(parts, dim=-1)


def layer_columns(basis: Basis, granularity: int) -> tuple[int, ...]:
    """Columns of alpha of each layer."""
    return tuple(min(granularity, shape[0]) for shape in basis.shapes.values())
