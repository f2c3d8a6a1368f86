"""Edge-popup: find a good subnetwork of a frozen random network (Ramanujan et al. 2019; SupSup, Sec. 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from impress_format.masks.mask_values import round_values
from impress_format.records.fields import Allocation, MaskType
from impress_format.records.masks import supermask_sizes
from impress_format.records.network import BackboneSpec
from impress_format.weights import random_words
from impress_learn.masks.top_k import top_k_mask
from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import training_forward
from impress_learn.streams.images import Images
from impress_learn.training.config import MaskTraining
from impress_learn.training.loop import minimise


def train_supermask(
    backbone: Backbone,
    train: Images,
    fit: MaskTraining,
    *,
    density: float,
    score_seed: int,
    on_step: Callable[[], None],
    mask_type: MaskType = "binary",
    allocation: Allocation = "uniform",
    calibration: Tensor | None = None,
) -> dict[str, Tensor]:
    """Train scores by edge-popup and return the supermask: bool tensors, with as many ones as `supermask_sizes` says.

    `score_seed` sets how scores begin, `fit` the order of the images; the backbone is shared by all masks of a bank.
    The ones of a `signed` mask (int8) have the sign of their score, those of a `real` one (float32) the score itself
    over the mean size of the chosen ones, so that both types begin with weights of the size that a binary mask has.

    Args:
        calibration: the bank's images, whose statistics BatchNorm takes; None for a network without.

    Raises:
        TrainingDiverged: loss or scores became NaN or infinite.
    """
    forward = training_forward(backbone, calibration, fit.seed)
    init = torch.Generator().manual_seed(score_seed)
    device = train.device
    layers = backbone.spec.masked_layers
    scores = [initial_scores(layer.shape, init, layer.fan_in).to(device) for layer in layers]
    sizes = supermask_sizes(layers, density, allocation)

    def effective() -> dict[str, Tensor]:
        return {
            name: edge_popup(layer_scores, weight, ones, mask_type)
            for (name, weight), layer_scores, ones in zip(backbone.weights.items(), scores, sizes, strict=True)
        }

    for layer_scores in scores:
        layer_scores.requires_grad_()
    minimise(
        lambda images: forward(effective(), images),
        scores,
        train,
        fit,
        on_step=on_step,
    )
    return {
        name: finished_mask(layer_scores.detach(), ones, mask_type)
        for name, layer_scores, ones in zip(backbone.weights, scores, sizes, strict=True)
    }


def finished_mask(scores: Tensor, ones: int, mask_type: MaskType = "binary") -> Tensor:
    """A layer's mask of trained scores as it is stored, on the CPU."""
    chosen = top_k_mask(scores.abs(), ones)
    if mask_type == "binary":
        return chosen.bool().cpu()
    factors = (chosen * _factors(scores, chosen, mask_type)).cpu()
    return factors.to(torch.int8) if mask_type == "signed" else torch.from_numpy(round_values(factors.numpy()))


def _factors(scores: Tensor, chosen: Tensor, mask_type: MaskType) -> Tensor:
    """What each chosen weight is multiplied by. A score of exactly 0 counts as positive: a one must stay one."""
    signs = torch.where(scores < 0, -1.0, 1.0)
    if mask_type == "signed":
        return signs
    sizes = scores.abs()
    return signs * sizes / ((sizes * chosen).sum() / chosen.sum()).clamp(min=1e-12)


def random_supermask(
    spec: BackboneSpec, *, density: float, seed: int, signed: bool = False, allocation: Allocation = "uniform"
) -> dict[str, Tensor]:
    """A supermask whose ones are a uniform sample, the same on every machine (random basis, method.md); `signed`, half
    of them -1.
    """
    masks = {}
    for layer, ones in zip(spec.masked_layers, supermask_sizes(spec.masked_layers, density, allocation), strict=True):
        words = random_words(seed, f"random mask/{layer.name}", layer.size)
        mask = words <= np.partition(words, ones - 1)[ones - 1]
        mask[np.flatnonzero(mask)[ones:]] = False  # of equal words, which hardly ever meet, the first
        if signed:
            negative = random_words(seed, f"random signs/{layer.name}", layer.size) >> np.uint64(63) == 1
            mask = np.where(negative, -1, 1).astype(np.int8) * mask.astype(np.int8)
        masks[layer.name] = torch.from_numpy(mask).reshape(layer.shape)
    return masks


def initial_scores(shape: Sequence[int], generator: torch.Generator, fan_in: int | None = None) -> Tensor:
    """Kaiming-uniform with a = sqrt(5): U(-b, b) with b = 1 / sqrt(fan_in); None: the axes but the first."""
    bound = 1.0 / math.sqrt(fan_in or math.prod(shape[1:]))
    return (torch.rand(tuple(shape), generator=generator) * 2.0 - 1.0) * bound


def edge_popup(scores: Tensor, weight: Tensor, ones: int, mask_type: MaskType = "binary") -> Tensor:
    """weight * top-k(|scores|), straight through the top-k to the scores; `signed` and `real` also times the factors
    of these types, straight through to the scores themselves.
    """
    popped: Tensor
    if mask_type == "binary":
        popped = _EdgePopup.apply(scores, weight, ones)
    else:
        chosen = top_k_mask(scores.detach().abs(), ones)
        popped = _Signed.apply(scores, weight, chosen * _factors(scores.detach(), chosen, mask_type))
    return popped


class _Signed(torch.autograd.Function):
    """Forward: weight * factors. Backward: straight through to scores, whose sign is the weight's."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, weight: Tensor, factors: Tensor) -> Tensor:  # noqa: ARG004  gets the gradient
        ctx.save_for_backward(weight)
        return weight * factors

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return grads[0] * weight, None, None


class _EdgePopup(torch.autograd.Function):
    """Forward: weight * top-k(|scores|). Backward: straight through the top-k to |scores|."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, weight: Tensor, ones: int) -> Tensor:
        ctx.save_for_backward(scores, weight)
        return top_k_mask(scores.abs(), ones).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        scores, weight = ctx.saved_tensors
        return (grads[0] * weight).mul_(scores.sign()), None, None
