"""Permuted streams: the pixels of every image of a task in one order, drawn from the task's key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from impress_learn.streams.stream import Key

PERMUTED_KEYS = 1 << 31


def permute(pixels: Tensor, key: Key) -> Tensor:
    """uint8 images (N, C, H, W) with their pixels in the order drawn from `key`, the same on every machine."""
    import torch

    height, width = pixels.shape[2:]
    order = torch.from_numpy(_order(key, height * width))
    return pixels.flatten(2)[:, :, order].reshape(pixels.shape)


def put_back(picture: npt.NDArray[np.float64], key: Key) -> npt.NDArray[np.float64]:
    """Numbers of the pixels of a permuted image, (H, W), where these pixels were before. Needs no torch."""
    import numpy as np

    before = np.empty(picture.size)
    before[_order(key, picture.size)] = picture.reshape(-1)
    return before.reshape(picture.shape)


def _order(key: Key, pixels: int) -> npt.NDArray[np.int64]:
    from impress_format.weights import permutation

    return permutation(int(key), "permuted pixels", pixels)
