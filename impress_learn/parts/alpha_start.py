"""What alpha begins from where images are few: the best that the bank has (docs/method.md, Few images)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from impress_format.records.masks import MaskPlan

if TYPE_CHECKING:
    from torch import Tensor

    from impress_learn.masks.basis import Basis
    from impress_learn.parts.part import FewImages

_LOSS_SCALE, _LEAST_SHARE = 10.0, 0.1
"""What the summed loss is divided by in a mask's share, and what is added to each share where the ridge is weighed."""
_FIRM, _LOOSE, _MOST_LOOSE = 3.0, 2.5, 0.05
"""Ridge of the likeliest mask's coefficient times the images, where the start fits them; likewise where it is no better
than guessing, and its most. All these were chosen on held-out images (docs/trials.md, Votes)."""


@dataclass(frozen=True, eq=False)
class AlphaStart:
    """Where alpha begins.

    Attributes:
        values: (K, columns).
        ridge: (K, 1), its weight of each mask's coefficients: the least for the likeliest mask.
        words: what it is, for people.
    """

    values: Tensor
    ridge: Tensor
    words: str


def usual_ridge(images: int) -> float:
    """Weight of the ridge where nothing says how firm it should be."""
    return min(_MOST_LOOSE, _LOOSE / images)


def choose_start(basis: Basis, granularity: int, few: FewImages, masks: Sequence[MaskPlan]) -> AlphaStart:
    """The likeliest mask or a stored task's alpha, whichever has less loss on the images; 1/K if both only guess.

    The likeliest mask has the largest sum of evidence and log-likelihood of the labels. Among equals the first counts.
    The ridge is the firmer the better the start fits, and the fewer the images are.

    Args:
        basis: the K masks that alpha weighs.
        masks: as they were planned, for their names.
    """
    import torch

    from impress_learn.masks.basis import effective_weights, layer_columns

    count, columns = len(basis), sum(layer_columns(basis, granularity))

    def loss(alpha: Tensor) -> float:
        return few.loss(effective_weights(basis, alpha.to(basis.device), granularity))

    losses = [few.loss(basis.one(index)) for index in range(count)]
    labels = -few.count * torch.tensor(losses)
    evidence = torch.zeros(count) if few.evidence is None else few.evidence
    index = int((labels + evidence).argmax())
    single = torch.zeros(count, columns)
    single[index] = 1.0
    tried = [(losses[index], f"mask {index} ({masks[index].label})", single)]
    tried += [(loss(alpha), f"task {name}", alpha) for name, alpha in few.stored]
    least, words, values = min(tried, key=lambda one: one[0])
    trust = max(0.0, 1.0 - least / few.guess)
    if not trust:
        words, values = "1/K", torch.full((count, columns), 1.0 / count)
    # Evidence of images of one task adds up too fast, as if they were independent: it counts as that of half an image.
    share = torch.softmax(labels / _LOSS_SCALE + evidence / (2 * few.count), 0) + _LEAST_SHARE
    firm = _FIRM / few.count * (share.max() / share)[:, None]
    return AlphaStart(values, trust * firm + (1.0 - trust) * usual_ridge(few.count), words)
