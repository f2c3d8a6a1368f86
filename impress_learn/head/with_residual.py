"""A head and a hashed residual in the layers before it, learned together (docs/method.md, Heads)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from impress_format.records import ResidualBits
from impress_format.weights import substream_seed
from impress_learn.features.projection import Projection
from impress_learn.features.tail import Begun
from impress_learn.fits import TaskFit
from impress_learn.head.fit import Head, ridge
from impress_learn.network.backbone import Backbone
from impress_learn.residual import HashedResidual
from impress_learn.training import minimise

_START = 0.02
"""Deviation of the values before training, chosen on held-out images."""


@dataclass(frozen=True, eq=False)
class Both:
    """What was learned, not rounded: a head, and values (count,) of the residual."""

    head: Head
    values: Tensor


def fit_both(
    backbone: Backbone,
    begun: Begun,
    projection: Projection,
    residual: HashedResidual,
    start: Both,
    fit: TaskFit,
    *,
    bits: ResidualBits,
    on_step: Callable[[], None],
) -> Both:
    """Learn both by Adam on cross-entropy from `start`, whose head is also what the ridge holds the head near.

    Raises:
        TrainingDiverged: loss or values became NaN or infinite.
    """
    weights = {name: backbone.weights[name] for name in residual.places}
    values = start.values.clone().to(begun.device).requires_grad_()
    head = Head(start.head.weight.clone().requires_grad_(), start.head.bias.clone().requires_grad_())

    def logits(begun_images: Tensor) -> Tensor:
        effective = residual.add_to(weights, weights, residual.rounded(values))
        return head.logits(projection.project(begun.tail.features(effective, begun_images)), bits)

    minimise(
        logits,
        [values, head.weight, head.bias],
        begun,
        fit,
        on_step=on_step,
        penalty=lambda: ridge(head, start.head, len(begun)),
    )
    return Both(Head(head.weight.detach(), head.bias.detach()), values.detach())


def first_values(residual: HashedResidual, fit: TaskFit) -> Tensor:
    """Values (count,) to train from: from zeros the scale would be zero, and nothing would move."""
    generator = torch.Generator().manual_seed(substream_seed(fit.seed, "residual"))
    return torch.randn(residual.count, generator=generator) * _START
