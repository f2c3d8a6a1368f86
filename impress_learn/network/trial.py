"""What a new network makes of a few images, before anything is trained: which pixels reach it, which layers learn.

Measured by gradients, not read from attributes: patches, strides and paddings have other names in every architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.network.probe import probe_images

_AT_ONCE = 2
"""Images whose gradients are computed together. The first two settle it, but where units are dead for both."""
LEAST = 0.9
"""Share of the pixels that a network is to see, if whole rows or columns at a border are cut off. Stems without padding
leave out up to four of them by design, 2 to 8 % of the pixels (Inception at 80 to 224 pixels); patches that do not fill
the image leave out more, up to two thirds."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What was seen of a network.

    Attributes:
        seen: bool (height, width), the pixels that any logit depends on.
        idle: names of maskable weights that get no gradient.
    """

    seen: Tensor
    idle: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the pixels that the network sees."""
        return float(self.seen.double().mean())

    @property
    def cut_off(self) -> tuple[int, int, int, int]:
        """Whole rows at the top and the bottom, and columns on the left and the right, that are not seen."""
        sides = (self.seen.any(1), self.seen.any(1).flip(0), self.seen.any(0), self.seen.any(0).flip(0))
        top, bottom, left, right = (int(side.int().argmax()) for side in sides)
        return top, bottom, left, right


def try_network(backbone: Backbone) -> Trial:
    """Look at which pixels logits depend on, and which weights have a gradient, under the bare weights.

    Of eight seeded images, by sums of sizes: what one image leaves dead behind a ReLU, another does not. Pixels without
    a gradient are then changed; they are seen all the same if that changes a logit.
    """
    images = probe_images(backbone.spec)
    weights = {name: weight.clone().requires_grad_() for name, weight in backbone.weights.items()}
    fixed = with_statistics(backbone, backbone.weights, images if backbone.has_batch_norm else None)
    statistics = {name: value for name, value in fixed.items() if name not in weights}
    seen = torch.zeros(backbone.spec.input_shape[1:], dtype=torch.bool)
    idle = list(weights)
    generator = torch.Generator().manual_seed(0)
    for part in images.split(_AT_ONCE):
        part.requires_grad_()
        logits = backbone({**statistics, **weights}, part)
        direction = torch.randn(logits.shape, generator=generator)
        wanted = [part, *(weights[name] for name in idle)]
        of_images, *of_weights = torch.autograd.grad((logits * direction).sum(), wanted, allow_unused=True)
        if of_images is not None:
            seen |= (of_images != 0).any(1).any(0)
        idle = [name for name, one in zip(idle, of_weights, strict=True) if one is None or not bool((one != 0).any())]
        if bool(seen.all()) and not idle:
            break
    trial = Trial(seen, tuple(idle))
    if trial.share < 1 and _depends_on(backbone, fixed, images, ~seen):
        return replace(trial, seen=torch.ones_like(seen))
    return trial


def _depends_on(backbone: Backbone, effective: Mapping[str, Tensor], images: Tensor, pixels: Tensor) -> bool:
    """Whether any logit changes with these pixels."""
    with torch.no_grad():
        return not torch.equal(
            backbone(effective, images), backbone(effective, torch.where(pixels, 1 - images, images))
        )
