"""Which of several parts a task gets: a trial on images held out from its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from impress_format.weights import permutation
from impress_learn.plan.tasks import TaskRequest
from impress_learn.streams.images import Images
from impress_learn.streams.load import split_order

_HELD_OUT = 0.2
"""Share of the images that a trial is judged on."""


def best_in_trial(
    request: TaskRequest, train: Images, share: Callable[[TaskRequest, Images, Images], float]
) -> TaskRequest:
    """The first of the request and its alternatives that no later one beats. Where masks may vote, they still may.

    One beats another if it is better on a fifth of the images, held out from both, by more than chance: more than a
    standard error of a share of so many images.

    Args:
        share: what is learned from images, measured on others.

    Raises:
        As `share`.
    """
    if request.instead is None:
        return request
    if request.parts.vote:
        return replace(request, instead=best_in_trial(request.instead, train, share))
    order = torch.from_numpy(permutation(request.fit.seed, f"trial/{len(train)}", len(train))).to(train.device)
    held = max(1, round(_HELD_OUT * len(train)))
    first, others = split_order(order, held, train.sets)
    if len(others) == 0:  # all images belong together
        first, others = split_order(order, held, None)
    apart, rest = train.subset(first.sort().values), train.subset(others.sort().values)
    best, present = request, share(request, rest, apart)
    left: TaskRequest | None = request.instead
    while left is not None:
        if (tried := share(left, rest, apart)) - present > 0.5 / math.sqrt(held):
            best, present = left, tried
        left = left.instead
    return replace(best, instead=None)
