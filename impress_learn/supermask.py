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
from impress_learn.backbone import Backbone, check_batch_size
from impress_learn.streams.data import Images
from impress_learn.training import minimise

_MOMENTUM = 0.9
_SAMPLE_STRIDE = 16
_SELECT_DIRECTLY_BELOW = 1 << 14


def train_supermask(
    backbone: Backbone,
    train: Images,
    *,
    density: float,
    epochs: int,
    batch_size: int,
    lr: float,
    score_seed: int,
    order_seed: int,
    on_step: Callable[[], None],
) -> dict[str, Tensor]:
    """Train scores by edge-popup and return the supermask: bool tensors, round(density * n) ones a layer.

    The seeds set score initialisation and the order of the images; the backbone is shared by all masks of a bank.

    Raises:
        TrainingDiverged: loss or scores became NaN or infinite.
        UsageError: batches of one image for a network with BatchNorm.
    """
    check_batch_size(backbone, min(batch_size, len(train)))
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
        optimizer=torch.optim.SGD(scores, lr=lr, momentum=_MOMENTUM),
        epochs=epochs,
        batch_size=batch_size,
        generator=torch.Generator().manual_seed(order_seed),
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


def top_k_mask(values: Tensor, ones: int) -> Tensor:
    """1.0 at the `ones` largest values, ties broken by the lowest index in C order, else 0.0; any shape and layout."""
    flat = values.contiguous().reshape(-1)
    if ones >= flat.numel():
        return torch.ones_like(values)
    threshold, at_least = _kth_largest(flat, ones)
    mask = torch.ge(flat, threshold, out=torch.empty_like(flat))
    if excess := at_least - ones:
        tied = torch.nonzero(flat == threshold).flatten()
        mask[tied[-excess:]] = 0.0
    return mask.reshape(values.shape)


def _kth_largest(flat: Tensor, k: int) -> tuple[float, int]:
    """The k-th largest of a 1-D tensor and how many values are at least as large, exactly.

    By selection among the few values that a sample cannot rule out, not by sorting.

    Floyd and Rivest 1975: order statistics of a regular sample bracket the answer; one pass counts what lies
    above the bracket and keeps what lies in it. Should the bracket miss, all values are searched.
    """
    n = flat.numel()
    if n < _SELECT_DIRECTLY_BELOW or flat.device.type != "cpu":
        threshold = torch.kthvalue(flat, n - k + 1).values
        return float(threshold), int(torch.count_nonzero(flat >= threshold))
    array = flat.numpy()  # shares memory; NumPy's selection and comparisons are several times faster on CPU
    sample = np.ascontiguousarray(array[::_SAMPLE_STRIDE])
    expected = k / n * sample.size
    margin = 4.0 * math.sqrt(expected * (1.0 - k / n)) + 1.0
    high = sample.size - 1 - max(0, int(expected - margin))
    low = sample.size - 1 - min(sample.size - 1, int(expected + margin))
    sample.partition((low, high))
    above = array > sample[high]
    needed = k - int(np.count_nonzero(above))
    candidates = array[np.flatnonzero((array >= sample[low]) & ~above)]
    if not 0 < needed <= candidates.size:
        candidates, needed = array, k
    kth = np.partition(candidates, candidates.size - needed)[candidates.size - needed]
    return float(kth), k - needed + int(np.count_nonzero(candidates >= kth))


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
