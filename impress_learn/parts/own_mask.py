"""A mask that a task has to itself in the last layer, in place of alpha there (hybrid; ImpressLearn, Sec. 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from impress_format.bank import Bank
from impress_format.container.codec import BoolArray
from impress_format.parts.own_mask import OWN_MASK as FORMAT
from impress_format.parts.own_mask import store_own_mask
from impress_format.records.masks import supermask_sizes
from impress_format.tasks.file import StoredTask
from impress_format.versions import require_version
from impress_format.weights import substream_seed
from impress_learn.parts.part import Array, Beginning, Ground, TaskPart, Trainable, Weights
from impress_learn.training.config import require

if TYPE_CHECKING:
    from torch import Tensor

    from impress_learn.network.backbone import Backbone
    from impress_learn.parts.table import Parts

SCORE_RATE = 0.1
"""What scores of the last layer's own mask move by, for each step of a coefficient."""


def trainable_mask(backbone: Backbone, ones: int, seed: int) -> Trainable:
    """A mask of so many ones in the last layer, found by edge-popup. Scores are over SCORE_RATE: edge-popup looks at
    their order alone, so that their unit is free.
    """
    import torch

    from impress_learn.masks.edge_popup import edge_popup, finished_mask, initial_scores

    last, weight = list(backbone.weights.items())[-1]
    generator = torch.Generator().manual_seed(substream_seed(seed, "own mask"))
    scores = (initial_scores(weight.shape, generator) / SCORE_RATE).to(weight.device).requires_grad_()

    def learned() -> Tensor:
        return finished_mask(scores.detach(), ones)

    return Trainable(
        tensors=[last],
        parameters=[scores],
        add=lambda effective: {**effective, last: edge_popup(scores, weight, ones)},
        learned=learned,
        store=lambda: store_own_mask(learned().numpy()),
    )


def _begin(ground: Ground, beginning: Beginning) -> Trainable:
    first = ground.masks[0]  # of its density
    ones = supermask_sizes(ground.backbone.spec.masked_layers, first.density, first.allocation)[-1]
    return trainable_mask(ground.backbone, ones, beginning.fit.seed)


def _add(ground: Ground, effective: Weights, mask: BoolArray) -> Weights:
    import torch

    last, weight = list(ground.backbone.weights.items())[-1]
    return {**effective, last: torch.from_numpy(mask).to(weight.device) * weight}


def _settle(bank: Bank, parts: Parts) -> Parts:
    if parts.hybrid:
        layers = bank.backbone.masked_layers
        require(bool(parts.alpha), "`hybrid` is alpha in all layers but the last: give it with `alpha`")
        require(len(layers) > 1, f"`hybrid`: the network has {len(layers)} layer, expected two or more")
        require_version(bank.path, bank.manifest.format_version, "which has no hybrid")
    return parts


def _of_stored(stored: StoredTask) -> Mapping[str, Any]:
    return {"hybrid": FORMAT.of(stored) is not None}


def _blank(bank: Bank, _: Parts, __: int) -> Array:
    return store_own_mask(np.ones(bank.backbone.masked_layers[-1].shape, dtype=np.bool_))


def _check_start(start: StoredTask, parts: Parts, _: int) -> None:
    own = FORMAT.of(start) is not None
    require(
        parts.hybrid == own,
        f"`warm_start` {start.record.name} is {'' if own else 'not '}`hybrid`: the new task must be alike",
    )


OWN_MASK = TaskPart(
    format=FORMAT,
    fields=("hybrid",),
    asked=lambda parts: parts.hybrid,
    settle=_settle,
    of_stored=_of_stored,
    blank=_blank,
    words=lambda _, __: "a mask of the last layer",
    add=_add,
    begin=_begin,
    check_start=_check_start,
)
