"""Images are turned as torchvision turns them, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.functional import InterpolationMode
from torchvision.transforms.functional import rotate as by_torchvision

from impress_learn.streams.rotated import rotate


@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (2, 3, 32, 32), (2, 1, 8, 8), (1, 2, 17, 30)])
def test_every_angle_is_that_of_torchvision(shape: tuple[int, int, int, int]) -> None:
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert rotate(pixels, 0) is pixels
    for degrees in range(1, 360):
        turned = by_torchvision(pixels.float(), float(degrees), interpolation=InterpolationMode.BILINEAR)
        assert torch.equal(rotate(pixels, degrees), turned.round().to(torch.uint8)), degrees
