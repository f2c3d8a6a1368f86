"""Labelled rows of numbers to learn from, in place of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled rows to learn from: projected features (N, D) and labels (N,)."""

    values: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def batch(self, indices: Tensor | slice, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        return self.values[indices], self.labels[indices]
