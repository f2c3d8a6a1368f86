"""What is done to images in training, batch by batch on the device they are on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_PAD = 8
"""A side over this is what an image is moved by at most: 4 pixels of 32 (method.md, Data)."""
_LEAST_AREA, _MOST_ASPECT = 0.35, 4 / 3


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Float images (N, C, H, W), each moved by up to an eighth of a side; what comes in is the image mirrored there."""
    import torch
    from torch.nn.functional import pad

    count, _, height, width = images.shape
    down, right = max(height // _PAD, 1), max(width // _PAD, 1)
    padded = pad(images, (right, right, down, down), mode="reflect")
    top = torch.randint(0, 2 * down + 1, (count, 1), generator=generator) + torch.arange(height)
    left = torch.randint(0, 2 * right + 1, (count, 1), generator=generator) + torch.arange(width)
    rows = top.to(images.device, non_blocking=True)[:, None, :, None].expand(-1, images.shape[1], -1, padded.shape[3])
    columns = left.to(images.device, non_blocking=True)[:, None, None, :].expand(-1, images.shape[1], height, -1)
    return padded.gather(2, rows).gather(3, columns)


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images mirrored, left for right."""
    import torch

    mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device, non_blocking=True)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def shift_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """What is usual for small photos: random crop after padding, and a mirror (CIFAR)."""
    return flip(shift(images, generator), generator)


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """What is usual for large photos: a random part, at least a third of the area, scaled up; and a mirror."""
    import math

    import torch
    from torch.nn.functional import affine_grid, grid_sample

    area, aspect, right, down = torch.rand(4, len(images), generator=generator)
    side = (_LEAST_AREA + area * (1 - _LEAST_AREA)).sqrt()
    narrow = ((aspect * 2 - 1) * math.log(_MOST_ASPECT) / 2).exp()
    width, height = (side * narrow).clamp(max=1), (side / narrow).clamp(max=1)
    nothing = torch.zeros_like(width)
    rows = [
        torch.stack([width, nothing, (right * 2 - 1) * (1 - width)], 1),
        torch.stack([nothing, height, (down * 2 - 1) * (1 - height)], 1),
    ]
    grid = affine_grid(
        torch.stack(rows, 1).to(images.device, non_blocking=True), list(images.shape), align_corners=False
    )
    cut = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return flip(cut, generator)
