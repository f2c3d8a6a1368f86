"""Rotated streams: every image of a task turned by the task's key, in degrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from impress_learn.streams.stream import Key

ROTATED_KEYS = 360


def rotate(pixels: Tensor, degrees: Key) -> Tensor:
    """uint8 images turned counter-clockwise about their centre, bilinear, background 0; 0 leaves them as they are."""
    if degrees == 0:
        return pixels
    import torch
    from torchvision.transforms.functional import InterpolationMode
    from torchvision.transforms.functional import rotate as rotate_batch

    turned: Tensor = rotate_batch(pixels.float(), float(degrees), interpolation=InterpolationMode.BILINEAR)
    return turned.round().to(torch.uint8)
