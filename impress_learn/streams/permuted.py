"""Permuted streams: the pixels of every image of a task in one order, drawn from the task's key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from impress_learn.streams.stream import Key

PERMUTED_KEYS = 1 << 31


def permute(pixels: Tensor, key: Key) -> Tensor:
    """uint8 images (N, C, H, W) with their pixels in the order drawn from `key`, the same on every machine."""
    import torch

    from impress_format.weights import permutation

    height, width = pixels.shape[2:]
    order = torch.from_numpy(permutation(int(key), "permuted pixels", height * width))
    return pixels.flatten(2)[:, :, order].reshape(pixels.shape)
