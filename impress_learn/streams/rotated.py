"""Rotated streams: every image of a task turned by the task's key, in degrees."""

from __future__ import annotations

from dataclasses import replace

import torch

from impress_learn.streams.data import Images

_CHUNK = 10_000


def rotate(images: Images, degrees: int) -> Images:
    """All images turned counter-clockwise about their centre, bilinear, background 0; 0 leaves them as they are."""
    if degrees == 0:
        return images
    from torchvision.transforms.functional import InterpolationMode
    from torchvision.transforms.functional import rotate as rotate_batch

    turned = [
        rotate_batch(chunk.float(), degrees, interpolation=InterpolationMode.BILINEAR).round().to(torch.uint8)
        for chunk in images.pixels.split(_CHUNK)
    ]
    return replace(images, pixels=torch.cat(turned))
