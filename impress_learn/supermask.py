"""Edge-popup: find a good subnetwork of a frozen random network (Ramanujan et al. 2019; SupSup, Sec. 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from impress_format.records import BackboneSpec, supermask_sizes
from impress_format.weights import random_words
from impress_learn.fits import MaskFit
from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import check_batch_size
from impress_learn.streams.images import Images
from impress_learn.top_k import top_k_mask
from impress_learn.training import minimise


def train_supermask(
    backbone: Backbone,
    train: Images,
    fit: MaskFit,
    *,
    density: float,
    score_seed: int,
    on_step: Callable[[], None],
) -> dict[str, Tensor]:
    """Train scores by edge-popup and return the supermask: bool tensors, round(density * n) ones a layer.

    `score_seed` sets how scores begin, `fit` the order of the images; the backbone is shared by all masks of a bank.

    Raises:
        TrainingDiverged: loss or scores became NaN or infinite.
        UsageError: batches of one image for a network with BatchNorm.
    """
    check_batch_size(backbone, min(fit.batch_size, len(train)))
    init = torch.Generator().manual_seed(score_seed)
    device = train.device
    scores = [initial_scores(weight.shape, init).to(device) for weight in backbone.weights.values()]
    sizes = supermask_sizes(backbone.spec.masked_layers, density)

    def effective() -> dict[str, Tensor]:
        return {
            name: _EdgePopup.apply(layer_scores, weight, ones)
            for (name, weight), layer_scores, ones in zip(backbone.weights.items(), scores, sizes, strict=True)
        }

    for layer_scores in scores:
        layer_scores.requires_grad_()
    minimise(
        lambda images: backbone(effective(), images),
        scores,
        train,
        fit,
        on_step=on_step,
    )
    return {
        name: top_k_mask(layer_scores.detach().abs(), ones).bool().cpu()
        for name, layer_scores, ones in zip(backbone.weights, scores, sizes, strict=True)
    }


def random_supermask(spec: BackboneSpec, *, density: float, seed: int) -> dict[str, Tensor]:
    """A supermask whose ones are a uniform sample, the same on every machine (random basis, method.md)."""
    masks = {}
    for layer, ones in zip(spec.masked_layers, supermask_sizes(spec.masked_layers, density), strict=True):
        words = random_words(seed, f"random mask/{layer.name}", layer.size)
        mask = words <= np.partition(words, ones - 1)[ones - 1]
        mask[np.flatnonzero(mask)[ones:]] = False  # of equal words, which hardly ever meet, the first
        masks[layer.name] = torch.from_numpy(mask).reshape(layer.shape)
    return masks


def initial_scores(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Kaiming-uniform with a = sqrt(5): U(-b, b) with b = 1 / sqrt(fan_in)."""
    bound = 1.0 / math.sqrt(math.prod(shape[1:]))
    return (torch.rand(tuple(shape), generator=generator) * 2.0 - 1.0) * bound


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
