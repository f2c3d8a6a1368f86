"""Numbers that tell what an image is like, before any task is known: inputs of layers of the frozen network."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from impress_learn.backbone import Backbone, calibrate
from impress_learn.streams.data import Images

_MOST_LAYERS = 4
_MOST_OF_LAYER = 1024
_MOST_IMAGES = 4096
_BATCH = 512


def layer_features(backbone: Backbone, images: Tensor, calibration: Tensor | None) -> Tensor:
    """Inputs of up to four masked layers, first and last among them, under the frozen weights without a mask.

    The unmasked network is the same for every task, so that features of different tasks can be compared; measured, it
    does as well here as the mean of the masks (docs/results.md, Which task).

    Args:
        images: normalised (n, *input_shape).

    Returns:
        (n, D), D at most 4,096: a layer's input as it is if it has up to 1,024 values, else pooled.
    """
    names = [layer.name.removesuffix(".weight") for layer in backbone.spec.masked_layers]
    spread = torch.linspace(0, len(names) - 1, min(len(names), _MOST_LAYERS)).round().long().tolist()
    seen: dict[str, Tensor] = {}
    if calibration is not None:
        calibrate(backbone, backbone.weights, calibration)
    with ExitStack() as stack, torch.no_grad():
        for index in spread:
            layer = backbone.module.get_submodule(names[index])
            stack.callback(layer.register_forward_pre_hook(_recorder(seen, names[index])).remove)
        backbone(backbone.weights, images)
    return torch.cat([seen[name] for name in (names[index] for index in spread) if name in seen], dim=1)


def image_features(backbone: Backbone, images: Images, calibration: Tensor | None) -> Tensor:
    """Features (n, D) of up to 4,096 images, evenly spread: their mean is then known to 2 % of one image's spread."""
    chosen = torch.linspace(0, len(images) - 1, min(len(images), _MOST_IMAGES), device=images.device).long()
    return torch.cat([layer_features(backbone, images.batch(part)[0], calibration) for part in chosen.split(_BATCH)])


def _recorder(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.setdefault(name, _pooled(inputs[0]))

    return record


def _pooled(activity: Tensor) -> Tensor:
    """(n, up to 1,024): images are pooled over neighbouring pixels, tokens over all, rows over neighbours."""
    if activity.dim() == 4 and activity[0].numel() > _MOST_OF_LAYER:
        side = max(1, math.isqrt(_MOST_OF_LAYER // activity.shape[1]))
        activity = adaptive_avg_pool2d(activity, (min(side, activity.shape[2]), min(side, activity.shape[3])))
    elif activity.dim() == 3:
        activity = activity.mean(1)
    row = activity.flatten(1)
    return adaptive_avg_pool1d(row[None], _MOST_OF_LAYER)[0] if row.shape[1] > _MOST_OF_LAYER else row
