"""Which task images are of, from features of a pretrained network: 64 bytes a task beside its head (docs/method.md).

A head tells classes of one task apart; what all its classes share, it leaves open. The signature says that: a linear
form, the same for all classes, along which images of the task lie apart from those of tasks like the bank's. With it
the logits of all heads are comparable, so that one forward of the network answers over all classes of all tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from impress_format.operations.task_groups import HeadsOf
from impress_format.parts.feature_signature import (
    BITS,
    StoredFeatureSignatures,
    count_weights,
    restore_feature_signatures,
    store_feature_signature,
)
from impress_format.parts.head import StoredHead
from impress_format.records.fields import TAG_BYTES
from impress_format.weights import substream_seed
from impress_learn.features.projection import Projection
from impress_learn.masks.quantise import codes_of, levels_of
from impress_learn.recognition.pixel_signature import Recognised

SHARE = 0.4
"""Weight of the linear discriminant between the task and others beside a head, whose logits a ridge draws to 0.
Chosen on held-out images (docs/trials.md, By features of a pretrained network), as all numbers here."""
_WITHIN = 0.1
"""Added to the covariance of images of a class, of its mean variance."""
_OTHERS = 4096
"""Images of other tasks that are drawn."""
_ABOVE = 2.0
"""Deviations above the mean of other tasks' images where the evidence is 0."""
_OWN = 1.0
"""The mean of the task's own images, at least: it may lie amid the others."""
LEAST, SPREAD = 0.2, 1.2
"""Images are of none of these tasks if the mean evidence for the likeliest is less than LEAST, minus SPREAD deviations
of that of single images over the root of their number."""
_AT_ONCE = 1 << 24
"""Numbers in memory at once: 64 MiB."""

Headed = Sequence[tuple[Sequence[int], Sequence[int], HeadsOf]]
"""Places of tasks with a head of one shape, the rows that these are, and what gives their heads."""


@dataclass(frozen=True, eq=False)
class Known:
    """T tasks, whose signatures are read.

    Attributes:
        headed: the heads of those that have one.
    """

    projection: Projection
    stored: StoredFeatureSignatures
    headed: Headed

    def recognise(self, groups: Tensor) -> Recognised:
        """What groups of images are likely to be, whose projected features are (g, n, D), those of a group of one task.

        Scores are task logits, summed over a group's images.
        """
        images, scores = groups.shape[1], self._scores(groups)
        best, found = scores.max(1)
        deviation = torch.from_numpy(self.stored.deviation).to(scores.device)[found]
        return Recognised(scores, best / images < LEAST - SPREAD * deviation / math.sqrt(images))

    def _scores(self, groups: Tensor) -> Tensor:
        """(g, T)."""
        device, (count, images) = groups.device, groups.shape[:2]
        weight, bias = (torch.from_numpy(part).to(device) for part in (self.stored.weight, self.stored.bias))
        scores = groups[..., : weight.shape[1]].sum(1) @ weight.T + images * bias
        for places, rows, heads in self.headed:
            classes, dimensions = heads(np.asarray(rows[:1], dtype=np.intp)).weight.shape[1:]
            step = max(1, _AT_ONCE // (classes * max(dimensions, count * images)))
            for start in range(0, len(places), step):
                head = heads(np.asarray(rows[start : start + step], dtype=np.intp))
                weight, bias = (torch.from_numpy(part).to(device) for part in (head.weight, head.bias))
                energy = _energy(weight, bias, groups.flatten(0, 1))
                scores[:, list(places[start : start + step])] += energy.view(count, images, -1).sum(1)
        return scores


def known_tasks(projection: Projection, signatures: npt.NDArray[np.uint8], headed: Headed = ()) -> Known:
    """T tasks by their signatures, uint8 (T, 64), and the heads of those that have one."""
    return Known(projection, restore_feature_signatures(signatures, projection.dimensions), headed)


def make_feature_signature(projection: Projection, projected: Tensor, head: StoredHead | None, seed: int) -> bytes:
    """The signature of a task of training images whose projected features are (N, D).

    Nothing is learned: the weight is a share of the linear discriminant, drawn towards 0 as few images leave their mean
    open; the bias puts 0 two deviations above what images of other tasks would give, drawn from the bank's covariances,
    or lower where that is too much for the task's own.
    """
    projected = projected.cpu()
    count = count_weights(projection.dimensions)
    within, between = projection.within.cpu().double(), projection.between.cpu().double()
    inner = within[:count, :count]
    spread = between[:count, :count] + _WITHIN * inner
    mean = spread @ torch.linalg.solve(spread + inner / len(projected), projected[:, :count].double().mean(0))
    ridge = _WITHIN * inner.diagonal().mean() * torch.eye(count, dtype=torch.float64)
    weight = torch.linalg.solve(inner + ridge, mean).float() * (1.0 if head is None else SHARE)
    codes, scales = codes_of(weight[None], BITS)
    scale = scales[0, 0].half()
    form = levels_of(codes[0], BITS) * scale.float()

    def task_logit(points: Tensor) -> Tensor:
        linear: Tensor = points[:, :count] @ form
        if head is None:
            return linear
        return linear + _energy(torch.from_numpy(head.weight)[None], torch.from_numpy(head.bias)[None], points)[:, 0]

    others, own = task_logit(_images_of_others(within + between, seed)), task_logit(projected)
    bias = torch.maximum(-(others.mean() + _ABOVE * others.std()), _OWN - own.mean())
    return store_feature_signature(
        bytes.fromhex(projection.digest)[:TAG_BYTES],
        codes[0].numpy().astype(np.uint8),
        *(float(number) for number in (scale, bias, own.std(correction=0))),
    )


def _energy(weight: Tensor, bias: Tensor, projected: Tensor) -> Tensor:
    """log sum_c exp(logits_c), (N, n), of images (N, D) under n heads, weight (n, C, d) and bias (n, C)."""
    heads, classes, dimensions = weight.shape
    logits = projected[:, :dimensions] @ weight.reshape(-1, dimensions).T + bias.reshape(-1)
    energy: Tensor = logits.view(len(projected), heads, classes).logsumexp(2)
    return energy


def _images_of_others(covariance: Tensor, seed: int) -> Tensor:
    """Projected features of images as those of the bank's tasks: normal, about 0."""
    ridge = 1e-3 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
    generator = torch.Generator().manual_seed(substream_seed(seed, "others"))
    drawn = torch.randn(_OTHERS, len(covariance), generator=generator, dtype=torch.float64)
    others: Tensor = drawn @ torch.linalg.cholesky(covariance + ridge).T
    return others.float()
