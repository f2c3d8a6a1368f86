"""What is done to images in training: each is changed by itself, by the generator alone, and shows what it did."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impress_learn.streams.augment import crop_and_flip, flip, shift, shift_and_flip

Augment = Callable[[Tensor, torch.Generator], Tensor]
ALL = pytest.mark.parametrize("augment", [shift, flip, shift_and_flip, crop_and_flip])


def noise(count: int = 16, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@ALL
def test_the_generator_decides(augment: Augment) -> None:
    images = noise()
    first, again, other = (augment(images, seeded(seed)) for seed in (1, 1, 2))
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@ALL
def test_each_image_is_changed_by_itself(augment: Augment) -> None:
    images = noise(1).expand(16, -1, -1, -1)
    changed = augment(images, seeded(3))
    assert len({one.sum().item() for one in changed} | {0.0}) > 2


@ALL
def test_what_comes_out_was_in_the_image(augment: Augment) -> None:
    changed = augment(noise().clamp(-1, 1), seeded(4))
    assert changed.abs().max() <= 1 + 1e-5


def test_a_flipped_image_is_itself_or_its_mirror_each_about_half_the_time() -> None:
    images = noise(400, 4)
    changed = flip(images, seeded(5))
    same = [torch.equal(one, other) for one, other in zip(images, changed, strict=True)]
    mirrored = [torch.equal(one.flip(2), other) for one, other in zip(images, changed, strict=True)]
    assert all(one != other for one, other in zip(same, mirrored, strict=True))
    assert 150 < sum(same) < 250


def test_a_shifted_image_is_a_window_of_the_mirrored_rim() -> None:
    images = noise(64)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4), mode="reflect")
    seen = set()
    for image, weight_delta in zip(padded, shift(images, seeded(6)), strict=True):
        places = [
            (top, left)
            for top in range(9)
            for left in range(9)
            if torch.equal(image[:, top : top + 32, left : left + 32], weight_delta)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) > 30


def test_a_crop_shows_a_part_scaled_up() -> None:
    ramp = torch.linspace(0, 1, 64).expand(200, 1, 64, 64)
    changed = crop_and_flip(ramp, seeded(7))
    reach = changed.amax((1, 2, 3)) - changed.amin((1, 2, 3))
    assert reach.min() > (0.35 * 3 / 4) ** 0.5 - 0.05  # a third of the area, at its narrowest
    assert reach.max() > 0.9
