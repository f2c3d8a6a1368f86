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
"""What the summed loss is divided by in a mask's share, and what is added to each share where the ridge is weighed:
chosen on held-out images (docs/results.md, Few images)."""


@dataclass(frozen=True, eq=False)
class AlphaStart:
    """Where alpha begins.

    Attributes:
        values: (K, columns).
        hold: (K, 1), what the ridge weighs each mask's coefficients with: 1 for the likeliest mask, more for others.
        words: what it is, for people.
    """

    values: Tensor
    hold: Tensor
    words: str


def choose_start(basis: Basis, granularity: int, few: FewImages, masks: Sequence[MaskPlan]) -> AlphaStart:
    """The start with the least loss on the images: 1/K, the likeliest mask, or a stored task's alpha.

    The likeliest mask has the largest sum of evidence and log-likelihood of the labels. Among equals the first counts.

    Args:
        basis: the K masks that alpha weighs.
        masks: as they were planned, for their names.
    """
    import torch

    from impress_learn.masks.basis import effective_weights, layer_columns

    count, columns = len(basis), sum(layer_columns(basis, granularity))

    def loss(alpha: Tensor) -> float:
        return few.loss(effective_weights(basis, alpha.to(basis.device), granularity))

    single = [row[:, None].repeat(1, columns) for row in torch.eye(count)]
    labels = -few.count * torch.tensor([loss(alpha) for alpha in single])
    evidence = torch.zeros(count) if few.evidence is None else few.evidence
    index = int((labels + evidence).argmax())
    starts = {
        "1/K": torch.full((count, columns), 1.0 / count),
        f"mask {index} ({masks[index].label})": single[index],
        **{f"task {name}": alpha for name, alpha in few.stored},
    }
    words = min(starts, key=lambda one: loss(starts[one]))
    # Evidence of images of one task adds up too fast, as if they were independent: it counts as that of half an image.
    share = torch.softmax(labels / _LOSS_SCALE + evidence / (2 * few.count), 0) + _LEAST_SHARE
    return AlphaStart(values=starts[words], hold=(share.max() / share)[:, None], words=words)
