"""What few images say of where a task could begin: their loss under weights, and the stored tasks that it could be."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impress_format.operations.task_groups import task_groups
from impress_format.parts.alpha import ALPHA
from impress_learn.masks.basis import refine
from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.parts.part import FewImages, Weights
from impress_learn.plan.few import FEW, chooses_beginning
from impress_learn.plan.tasks import TaskRequest, count_masks
from impress_learn.recognition.pixel_signature import read_signatures, recognise
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.images import Images, evenly_spread

_MOST_TASKS = 256
"""Stored tasks that are tried."""
_AT_ONCE, _ENOUGH = 250, 100


def few_images(loaded: RunningBank, request: TaskRequest, train: Images) -> FewImages | None:
    """What these images say; None where there are many of them.

    Raises:
        FormatError: a stored task is damaged.
    """
    if len(train) >= FEW:
        return None
    backbone = loaded.backbone.answering(request.classes.count)

    def loss(effective: Weights) -> float:
        return _mean_loss(backbone, effective, train, loaded.calibration)

    guess = math.log(request.classes.count)
    if not chooses_beginning(request):
        return FewImages(len(train), loss, guess, [])
    evidence = evidence_of_masks(loaded, train)
    if evidence is not None and not bool(evidence.isfinite().all()):
        evidence = None  # a mask whose task is not known could not be chosen by it
    return FewImages(len(train), loss, guess, list(_stored(loaded, request)), evidence)


def evidence_of_masks(loaded: RunningBank, images: Images) -> Tensor | None:
    """How likely these images are, as log-likelihood (K,), under the task of each mask, by the bank's task classifier;
    -inf of a mask whose task it does not know, None where it knows none, or there is none.

    Up to 100 of them are looked at: they share a task, and of more the classifier only becomes surer of itself.

    Raises:
        FormatError: a mask or the task classifier is damaged.
    """
    if loaded.task_classifier is None:
        return None
    signatures = [loaded.bank.read_mask_signature(index) for index in range(len(loaded.basis))]
    known = [index for index, row in enumerate(signatures) if row is not None]
    if not known:
        return None
    tasks = read_signatures(loaded.task_classifier, np.stack([row for row in signatures if row is not None]))
    some = images.subset(evenly_spread(len(images), _ENOUGH).to(images.device)).batch(slice(None))[0]
    scores = recognise(loaded.task_classifier, tasks, some[None]).scores[0].cpu()
    evidence = torch.full((len(signatures),), -torch.inf)
    evidence[known] = scores * (len(images) / len(some))
    return evidence


def _stored(loaded: RunningBank, request: TaskRequest) -> Iterator[tuple[str, Tensor]]:
    """Tasks of as many classes whose coefficients can be written as those of this one: up to 256, packs first.

    Those that the same command asks for are left out: which of them are stored already depends on who learns first.
    """
    granularity, masks = request.parts.granularity, count_masks(loaded.bank, request)
    channels = [shape[0] for shape in loaded.basis.shapes.values()]
    apart, tried = {request.name, *request.beside}, 0
    for group in task_groups(loaded.bank):
        alike = group.only == ALPHA.name and group.classes == request.classes.count
        if not alike or granularity % group.granularity:
            continue
        rows = [row for row, one in enumerate(group.summaries) if one.name not in apart][: _MOST_TASKS - tried]
        tried += len(rows)
        alpha = torch.from_numpy(group.alpha(np.array(rows, dtype=np.intp)))
        padded = torch.zeros(len(rows), masks, alpha.shape[2])  # 0 for masks that came later
        padded[:, : alpha.shape[1]] = alpha
        for row, values in zip(rows, refine(padded, channels, group.granularity, granularity), strict=True):
            yield group.summaries[row].name, values
        if tried >= _MOST_TASKS:
            return


def _mean_loss(backbone: Backbone, effective: Weights, images: Images, calibration: Tensor | None) -> float:
    """Mean cross-entropy of the images as they are."""
    weights, total = with_statistics(backbone, effective, calibration), 0.0
    with torch.no_grad():
        for start in range(0, len(images), _AT_ONCE):
            batch, labels = images.batch(slice(start, start + _AT_ONCE))
            total += float(cross_entropy(backbone(weights, batch), labels, reduction="sum"))
    return total / len(images)
