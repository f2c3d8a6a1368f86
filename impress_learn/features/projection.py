"""The projection that heads stand on: principal directions of features of other tasks (docs/method.md, Heads).

It is made once, of the tasks that a bank is created with, and stored. Unwhitened: a head is learned with a ridge, to
which the spread of a direction says how far it is to be trusted (docs/trials.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.bank_files.adaptation import StoredAdaptation
from impress_format.bank_files.projection import PROJECTION, StoredProjection
from impress_format.parts.numbers import restore, store

MOST_DIRECTIONS = 256
"""More gain nothing: heads of all 1,280 features are half a point better than of 256 directions."""
_LEAST = 1e-6
"""Least variance of a direction, relative to the first. Less is rounding, or the images were too few."""
_FIRST = 3.0
"""Deviation of projected images in the first direction: with it one ridge and one learning rate serve all networks."""


@dataclass(frozen=True, eq=False)
class Projection:
    """A bank's projection, on its device.

    Attributes:
        digest: of its file.
        mean: (W,).
        directions: (W, D).
        within, between: (D, D), covariance of images of one class, and of the means of classes.
        weight_delta: what moved the network before its features are taken; None if nothing did.
    """

    digest: str
    mean: Tensor
    directions: Tensor
    within: Tensor
    between: Tensor
    weight_delta: StoredAdaptation | None = None

    @property
    def dimensions(self) -> int:
        return self.directions.shape[1]

    def project(self, features: Tensor) -> Tensor:
        """Where features (..., W) lie: (..., D)."""
        return (features - self.mean) @ self.directions

    def classifier(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (C, W) and bias (C,) of the linear layer that is this head (C, d) over the projection."""
        rows = weight @ self.directions[:, : weight.shape[1]].T
        return rows, bias - rows @ self.mean


def load_projection(bank: Bank, device: torch.device) -> Projection:
    """The bank's projection.

    Raises:
        FormatError: its file is missing or damaged.
    """
    record, stored = bank.files.read(PROJECTION)

    def on_device(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(device)

    return Projection(
        digest=record.digest,
        mean=on_device(stored.mean),
        directions=on_device(stored.directions),
        within=on_device(stored.within),
        between=on_device(stored.between),
        weight_delta=stored.adaptation,
    )


def make_projection(features: Tensor, classes: Tensor) -> StoredProjection:
    """The projection of features (N, W) of images of many classes (N,), those of different tasks told apart.

    In double precision: which of two directions of nearly one variance comes first decides about every head.
    """
    mean = features.mean(0, dtype=torch.float64).half().double()
    centred = features.double() - mean
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    count = min(MOST_DIRECTIONS, int((variances > _LEAST * variances[-1]).sum()))
    scale = _FIRST / variances[-1].clamp(min=1e-12).sqrt()
    directions = (axes.flip(1)[:, :count] * scale).float().numpy()
    kept = restore(store(directions, "int8"), count)  # covariances are of what will be read
    projected = centred @ torch.from_numpy(kept).double()
    _, row_labels = classes.unique(return_inverse=True)
    sizes = row_labels.bincount().double()
    means = torch.zeros(len(sizes), count, dtype=torch.float64).index_add_(0, row_labels, projected) / sizes[:, None]
    apart = projected - means[row_labels]
    return StoredProjection(
        mean=mean.numpy().astype(np.float16),
        directions=kept,
        within=(apart.T @ apart / len(apart)).float().numpy(),
        between=(means.T @ means / len(means)).float().numpy(),
    )
