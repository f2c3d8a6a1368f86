"""BatchNorm over a frozen network: whose statistics it normalises by (method.md, Norm layers)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from impress_format.errors import UsageError
from impress_format.weights import substream_seed
from impress_learn.network.backbone import Backbone
from impress_learn.network.functional import functional_call
from impress_learn.network.probe import probe_images

BESIDE = 32
"""Images of the bank that go through the network beside each training batch. 64 gained nothing more."""

_LARGE = 4_000_000
"""Weights from which on a GPU gains by bfloat16; of smaller networks it waits for kernels (docs/results, On a GPU)."""

Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Effective weights and normalised images (batch, *input_shape) -> logits (batch, classes)."""


def with_statistics(backbone: Backbone, effective: Mapping[str, Tensor], images: Tensor | None) -> Mapping[str, Tensor]:
    """The effective weights with BatchNorm statistics of `images` (batch, *input_shape) sent through them.

    With these the network answers for one image alone, as it does for a batch (method.md, Norm layers). Without
    images, for a network that needs none, the weights as they are.
    """
    if images is None:
        return effective
    buffers = dict(backbone.module.named_buffers())
    statistics = {
        f"{path}.{kind}": torch.full_like(buffers[f"{path}.{kind}"], start)
        for path in backbone.norms
        for kind, start in (("running_mean", 0.0), ("running_var", 1.0), ("num_batches_tracked", 0))
    }
    for path in backbone.norms:
        backbone.module.get_submodule(path).train()
    with torch.no_grad():
        functional_call(backbone.module, {**effective, **statistics}, (images,))  # fills the statistics in place
    return {**effective, **statistics}


def training_forward(
    backbone: Backbone, calibration: Tensor | None, seed: int, *, bfloat16: bool | None = None
) -> Forward:
    """The network as it is trained: under the statistics that it will answer with, those of the bank's images.

    Args:
        calibration: the bank's images, normalised; None for a network that needs none.
        seed: what the images beside each batch are drawn from.
        bfloat16: whether products are computed in it (autocast). None: of a large network, on a GPU.
    """
    generator = torch.Generator().manual_seed(substream_seed(seed, "calibration"))
    large = backbone.spec.weights >= _LARGE

    def forward(effective: Mapping[str, Tensor], images: Tensor) -> Tensor:
        halved = images.is_cuda and large if bfloat16 is None else bfloat16
        with torch.autocast(images.device.type, torch.bfloat16, enabled=halved):
            if calibration is None or not backbone.has_batch_norm:
                return backbone(effective, images).float()
            chosen = torch.randperm(len(calibration), generator=generator)[:BESIDE]
            beside = calibration[chosen.to(images.device, non_blocking=True)]
            return logits_beside(backbone, effective, images, beside).float()

    return forward


def logits_beside(backbone: Backbone, effective: Mapping[str, Tensor], images: Tensor, calibration: Tensor) -> Tensor:
    """Logits of `images` under the statistics of `calibration`, differentiable through both.

    As `with_statistics` and then the network, in one pass: what trains under the statistics of its own batch is off by
    points under others, and gradients that do not flow through the statistics do not mend it (docs/results).
    """
    identity = {
        f"{path}.{kind}": value
        for path in backbone.norms
        for kind, value in _identity(backbone.module.get_submodule(path))
    }
    with _normalised_by_first(backbone, len(calibration), len(calibration) + len(images)):
        return backbone({**effective, **identity}, torch.cat([calibration, images]))[len(calibration) :]


def statistics_apart(backbone: Backbone) -> float:
    """How far logits as they are trained lie from those that are answered, of the largest logit; 0 without BatchNorm.

    Of the eight probe images, six stand for the bank's. It is rounding where rows that a BatchNorm takes belong to
    images one after the other, as `logits_beside` has it.
    """
    if not backbone.has_batch_norm:
        return 0.0
    dtype = next(iter(backbone.weights.values())).dtype
    calibration, images = probe_images(backbone.spec).to(dtype).split([6, 2])
    with torch.no_grad():
        trained = logits_beside(backbone, backbone.weights, images, calibration)
        answered = backbone(with_statistics(backbone, backbone.weights, calibration), images)
    return float((trained - answered).abs().max() / answered.abs().max())


def _identity(norm: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Statistics under which a BatchNorm changes nothing."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None
    zeros = torch.zeros_like(norm.running_mean)
    yield "running_mean", zeros
    yield "running_var", zeros + (1 - norm.eps)


@contextmanager
def _normalised_by_first(backbone: Backbone, count: int, images: int) -> Iterator[None]:
    """Within it, what reaches a BatchNorm is normalised by mean and variance of the first `count` of so many images.

    Networks that normalise tokens or windows give each image several rows, one image after the other.
    """

    def normalise(norm: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        rows, left = divmod(len(inputs[0]), images)
        if left:
            raise UsageError(
                f"{backbone.spec.arch} cannot be trained here: its BatchNorm takes {len(inputs[0]):,} rows of "
                f"{images:,} images, expected a whole number of rows an image"
            )
        normalised: Tensor = _NormaliseByFirst.apply(inputs[0], count * rows, norm.eps)
        return normalised

    hooks = [backbone.module.get_submodule(path).register_forward_pre_hook(normalise) for path in backbone.norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _NormaliseByFirst(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) a channel, by the first `count` rows of (rows, channels, ...).

    The variance is the biased one for these rows and the unbiased one for the rest, as BatchNorm's own and its
    running statistics are. Gradients flow through both. By BatchNorm's own kernels, which keep nothing but the input:
    written out, a step takes three times the kernels and twice the memory.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, count: int, eps: float) -> Tensor:
        dtype = torch.promote_types(values.dtype, torch.float32)
        ones = torch.ones(values.shape[1], dtype=dtype, device=values.device)
        mean, variance = torch.zeros_like(ones), torch.zeros_like(ones)  # with momentum 1 it fills them
        first, others = values[:count], values[count:]
        normalised, *saved = torch.native_batch_norm(first, ones, None, mean, variance, True, 1.0, eps)
        ctx.save_for_backward(values, ones, mean, variance, *saved)
        ctx.count, ctx.eps = count, eps
        return torch.cat([normalised, torch.native_batch_norm(others, ones, None, mean, variance, False, 0.0, eps)[0]])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        values, ones, mean, variance, *saved = ctx.saved_tensors
        first, others = values[: ctx.count], values[ctx.count :]
        of_first, of_others = gradients[0][: ctx.count], gradients[0][ctx.count :]
        backward = torch.ops.aten.native_batch_norm_backward
        by_first = backward(of_first, first, ones, mean, variance, *saved, True, ctx.eps, [True, False, False])[0]
        by_others, slope, total = backward(
            of_others, others, ones, mean, variance, *saved, False, ctx.eps, [True, True, True]
        )
        # others_hat = (others - m) / sqrt(v + eps), v = sum (first - m)^2 / (n - 1): what they say of m and v.
        measured = first.numel() // first.shape[1]
        scale = torch.rsqrt(variance + ctx.eps)
        by_mean = total * scale / -measured
        by_value = slope * scale.square() / -max(measured - 1, 1)
        shape = [-1] + [1] * (values.ndim - 2)
        shift = (by_mean - by_value * mean).reshape(shape)
        by_first = by_first + torch.addcmul(shift, first, by_value.reshape(shape)).to(by_first.dtype)
        return torch.cat([by_first, by_others]), None, None
