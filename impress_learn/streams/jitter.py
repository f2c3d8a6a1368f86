"""Small changes that leave an image what it shows: more images, where there are few (`shots`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_DEGREES, _SCALE, _SHIFT = 12.0, 0.12, 1 / 14
"""At most: turned by, larger or smaller by, and moved by, of a side. Chosen in trials (docs/trials.md, Few images)."""


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Float images (N, C, H, W), each turned, scaled and moved by a little; what comes in is its darkest value."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    turn, scale, right, down = (torch.rand(4, len(images), generator=generator) * 2 - 1).to(
        images.device, non_blocking=True
    )
    angle, size = turn * math.radians(_DEGREES), 1 + scale * _SCALE
    cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
    move = 2 * _SHIFT  # the sides of affine_grid are from -1 to 1
    rows = [torch.stack([cosine, -sine, right * move], 1), torch.stack([sine, cosine, down * move], 1)]
    grid = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    darkest = images.amin(dim=(2, 3), keepdim=True)
    moved: Tensor = grid_sample(images - darkest, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved + darkest
