"""Permuted streams: the pixels of every image of a task in one order, drawn from the task's key."""

from __future__ import annotations

from dataclasses import replace

import torch

from impress_format.weights import permutation
from impress_learn.streams.data import Images


def permute(images: Images, key: int) -> Images:
    """All images with their pixels in the order drawn from `key` (the same on every machine)."""
    count, channels, height, width = images.pixels.shape
    order = torch.from_numpy(permutation(key, "permuted pixels", height * width))
    return replace(images, pixels=images.pixels.flatten(2)[:, :, order].reshape(count, channels, height, width))
