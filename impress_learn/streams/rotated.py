"""Rotated streams: every image of a task turned by the task's key, in degrees."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from impress_learn.streams.stream import Key

ROTATED_KEYS = 360


def rotate(pixels: Tensor, degrees: Key) -> Tensor:
    """uint8 images turned counter-clockwise about their centre, bilinear, background 0; 0 leaves them as they are.

    Bit for bit what torchvision's `rotate` gives, whose import takes a second (torch._dynamo).
    """
    if degrees == 0:
        return pixels
    import torch
    from torch.nn.functional import grid_sample

    height, width = pixels.shape[2:]
    angle = math.radians(-float(degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cosine, -sine], [sine, cosine], [0.0, 0.0]])
    places = torch.ones(height, width, 3)
    places[..., 0] = torch.linspace(-width * 0.5 + 0.5, width * 0.5 - 0.5, width)
    places[..., 1] = torch.linspace(-height * 0.5 + 0.5, height * 0.5 - 0.5, height)[:, None]
    sides = torch.tensor([0.5 * width, 0.5 * height])
    grid = (places.view(1, height * width, 3) @ (turn / sides)[None]).view(1, height, width, 2)
    turned = grid_sample(
        pixels.float(), grid.to(pixels.device).expand(len(pixels), -1, -1, -1), mode="bilinear", padding_mode="zeros",
        align_corners=False,
    )  # fmt: skip
    return turned.round().to(torch.uint8)
