"""Learning a head: a few numbers for each class, rounded in every step as they will be stored.

Many tasks share the projection, and with it what is known of classes before one is seen: how images of a class spread
(`within`), and how classes lie about each other (`between`). A head is drawn towards the linear discriminant that
follows from these, the less the more images there are. From few images it is learned from what follows from these, too
(imagined.py; docs/method.md, Heads).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impress_format.parts.head import StoredHead, store_head
from impress_format.records.fields import ValueBits
from impress_format.weights import substream_seed
from impress_learn.features.projection import Projection
from impress_learn.masks.quantise import codes_of, rounded
from impress_learn.tasks.head.imagined import LEAST_WITHIN, class_means, imagine
from impress_learn.training.config import TaskTraining
from impress_learn.training.loop import Rows, minimise

RIDGE = 10.0
"""Weight of sum (w - prior)^2 beside the cross-entropy summed over all images, chosen on held-out images."""
PRIOR_IMAGES = 100
"""So many images count as much as the linear discriminant does, chosen on held-out images."""
_NOISE = 1e-3
"""Deviation that values start with: from zeros the scale of a row would be zero."""
_FEW_RATE = 3.0
"""How much larger the learning rate is where images are few, chosen on held-out images."""


@dataclass(frozen=True, eq=False)
class Head:
    """A head: weight (C, D), not rounded, and bias (C,)."""

    weight: Tensor
    bias: Tensor

    def logits(self, projected: Tensor, bits: ValueBits) -> Tensor:
        """Logits (n, C) of projected features (n, at least D), rounded as it will be stored."""
        return projected[:, : self.weight.shape[1]] @ rounded(self.weight, bits).T + self.bias


def fit_head(
    rows: Rows,
    projection: Projection,
    fit: TaskTraining,
    *,
    classes: int,
    dimensions: int,
    bits: ValueBits,
    on_step: Callable[[], None],
    start: StoredHead | None = None,
    copies: Rows | None = None,
) -> Head:
    """Learn a head by Adam on cross-entropy, near what is known of classes before, or near `start`.

    Args:
        copies: of few images what is learned from in their place: rows of augmented copies, too. Beside these it is
            learned from rows that are imagined. None of many images, or near `start`.

    Raises:
        TrainingDiverged: loss or values became NaN or infinite.
    """
    rows = Rows(rows.values[:, :dimensions], rows.labels)
    device = rows.device
    if start is None:
        prior = discriminant(rows, projection, classes)
        share = 1.0 if copies is not None else PRIOR_IMAGES / (PRIOR_IMAGES + len(rows))
        prior = Head(prior.weight * share, prior.bias * share)
    else:
        prior = Head(torch.from_numpy(start.weight).to(device), torch.from_numpy(start.bias).to(device))
    generator = torch.Generator().manual_seed(substream_seed(fit.seed, "head"))
    noise = _NOISE * torch.randn(classes, dimensions, generator=generator)
    head = Head((prior.weight + noise.to(device)).requires_grad_(), prior.bias.clone().requires_grad_())
    penalty = partial(ridge, head, prior, len(rows))
    if copies is not None:
        draw = imagine(class_means(rows, projection, classes), projection, substream_seed(fit.seed, "imagined"))
        times = len(copies) // len(rows)  # as many steps as of the images alone
        fit = replace(fit, lr=_FEW_RATE * fit.lr, batch_size=times * fit.batch_size)
        rows = Rows(copies.values[:, :dimensions], copies.labels)
        penalty = partial(_imagined_loss, head, bits, draw)
    minimise(
        lambda projected: head.logits(projected, bits),
        [head.weight, head.bias],
        rows,
        fit,
        on_step=on_step,
        penalty=penalty,
    )
    return Head(head.weight.detach(), head.bias.detach())


def _imagined_loss(head: Head, bits: ValueBits, draw: Callable[[], Rows]) -> Tensor:
    rows = draw()
    return cross_entropy(head.logits(rows.values, bits), rows.labels)


def ridge(head: Head, prior: Head, images: int) -> Tensor:
    """What holds a head near the prior, beside the mean of the cross-entropy over `images`."""
    return RIDGE / images * (head.weight - prior.weight).square().sum()


def discriminant(rows: Rows, projection: Projection, classes: int) -> Head:
    """The linear discriminant of classes whose means are `class_means`, and which spread as `within` says."""
    count = rows.values.shape[1]
    within, means = projection.within[:count, :count], class_means(rows, projection, classes).likeliest
    regular = within + LEAST_WITHIN * within.diagonal().mean() * torch.eye(count, device=rows.device)
    weight = torch.linalg.solve(regular, means.T).T
    bias = -0.5 * (weight * means).sum(1)
    return Head(weight - weight.mean(0), bias - bias.mean())


def store(head: Head, bits: ValueBits) -> npt.NDArray[np.uint8]:
    """The bytes of a head (impress_format/parts/head.py)."""
    codes, scales = codes_of(head.weight.cpu(), bits)
    return store_head(
        codes.numpy().astype(np.uint8),
        scales[:, 0].numpy().astype(np.float16),
        head.bias.cpu().numpy().astype(np.float16),
        bits,
    )
