"""A basis and alpha -> effective weights (ImpressLearn, Eq. 1), at any granularity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from impress_learn.masks.coded_masks import CodedMasks, code_masks, count_tables
from impress_learn.masks.layer_masks import PackedMasks, StackedMasks, group_of_channel, pack_masks, stack_masks
from impress_learn.network.backbone import Backbone

AT_MOST = 1 << 30
"""Bytes up to which masks are kept ready to be multiplied, or looked up; more are kept packed."""
CODED_FROM = 17
"""Masks from which on a CPU looks them up. Of fewer it is hardly faster, and sums would be rounded otherwise."""


LayerMasks = StackedMasks | CodedMasks | PackedMasks


@dataclass(frozen=True)
class Basis:
    """K supermasks laid over the frozen weights, ready to be combined.

    Attributes:
        layers: the masks of each layer.
        shapes: the shape of each layer's weights.
    """

    layers: dict[str, LayerMasks]
    shapes: dict[str, torch.Size]

    def __len__(self) -> int:
        return len(next(iter(self.layers.values())))

    @property
    def device(self) -> torch.device:
        return next(iter(self.layers.values())).device

    def one(self, index: int) -> dict[str, Tensor]:
        """Effective weights under one mask alone."""
        return {name: masks.one(index).reshape(self.shapes[name]) for name, masks in self.layers.items()}

    def but_last(self) -> Basis:
        """The basis without the last layer, sharing memory."""
        names = list(self.layers)[:-1]
        return Basis({name: self.layers[name] for name in names}, {name: self.shapes[name] for name in names})

    def first(self, count: int) -> Basis:
        """The basis of the first `count` masks, sharing memory."""
        return Basis({name: masks.first(count) for name, masks in self.layers.items()}, self.shapes)


def make_basis(backbone: Backbone, supermasks: Sequence[Mapping[str, Tensor]]) -> Basis:
    """Supermasks (tensors by layer, as train_supermask returns them) on the backbone's device."""
    weights = backbone.weights
    real = any(layer.is_floating_point() for mask in supermasks for layer in mask.values())
    device = next(iter(weights.values())).device
    signed = any(layer.dtype != torch.bool for mask in supermasks for layer in mask.values())
    kept = keep_masks(len(supermasks), backbone.spec.weights, real=real, signed=signed, device=device)
    lay: Callable[[Sequence[Tensor], Tensor], LayerMasks] = _LAY[kept.how]
    layers: dict[str, LayerMasks] = {
        name: lay([mask[name] for mask in supermasks], weight) for name, weight in weights.items()
    }
    return Basis(layers, {name: weight.shape for name, weight in weights.items()})


@dataclass(frozen=True)
class Kept:
    """How masks are kept in memory, and the bytes that all of them take."""

    how: Literal["stacked", "coded", "packed"]
    bytes: int


_LAY: dict[str, Callable[[Sequence[Tensor], Tensor], LayerMasks]] = {
    "stacked": stack_masks,
    "coded": code_masks,
    "packed": pack_masks,
}


def keep_masks(masks: int, weights: int, *, real: bool, signed: bool, device: torch.device) -> Kept:
    """How so many masks of so many weights are kept: as float32 (4 bytes each), on a CPU where there are many looked up
    (4 bytes for 12 of them, or 7 that are signed), and where that is too much, packed to a bit or two. Masks whose ones
    weigh a number are always float32.
    """
    stacked = Kept("stacked", 4 * masks * weights)
    if real:
        return stacked
    coded = Kept("coded", 4 * count_tables(masks, 3 if signed else 2) * weights)
    ready = coded if device.type == "cpu" and masks >= CODED_FROM else stacked
    return ready if ready.bytes <= AT_MOST else Kept("packed", masks * weights // (4 if signed else 8))


def effective_weights(basis: Basis, alpha: Tensor, granularity: int = 1) -> dict[str, Tensor]:
    """W_eff,i = (sum_k alpha_{k,i} M_{k,i}) * W_i for every layer; differentiable in alpha.

    Args:
        alpha: (K, columns): one column a layer at granularity 1; with G groups of output channels, min(G, out)
            columns a layer, in layer order. Channel c of a layer belongs to group floor(c * groups / out).
    """
    return {
        name: masks.combine(columns).reshape(basis.shapes[name])
        for (name, masks), columns in zip(basis.layers.items(), _by_layer(basis, alpha, granularity), strict=True)
    }


def effective_of_tasks(basis: Basis, alpha: Tensor, granularity: int = 1) -> dict[str, Tensor]:
    """As effective_weights, of T tasks at once: every mask is read once. Nothing is kept for a way back.

    Args:
        alpha: (T, K, columns).

    Returns:
        For every layer the weights of each task, (T, *shape).
    """
    return {
        name: masks.sums(columns).reshape(-1, *basis.shapes[name])
        for (name, masks), columns in zip(basis.layers.items(), _by_layer(basis, alpha, granularity), strict=True)
    }


def slopes_of_tasks(basis: Basis, gradients: Mapping[str, Tensor], granularity: int = 1) -> Tensor:
    """Gradients by alpha (T, K, columns), of those by `effective_of_tasks`."""
    slopes = [
        masks.slopes(gradients[name].flatten(2), groups)
        for (name, masks), groups in zip(basis.layers.items(), layer_columns(basis, granularity), strict=True)
    ]
    return torch.cat(slopes, dim=2)


def _by_layer(basis: Basis, alpha: Tensor, granularity: int) -> Sequence[Tensor]:
    """The columns of each layer, of the last axis."""
    columns: Sequence[Tensor] = alpha.split(layer_columns(basis, granularity), dim=-1)
    return columns


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


def common_granularity(granularities: set[int], channels: Sequence[int]) -> int:
    """The least granularity at which tasks of all these can be written without loss.

    That is the finest, where every other divides it: groups then lie within groups. Else it is one group a channel.
    """
    finest = max(granularities, default=1)
    nested = all(finest % one == 0 for one in granularities) or finest >= max(channels)
    return finest if nested else max(channels)
