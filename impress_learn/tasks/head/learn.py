"""Learning a task over pretrained weights: its head, and parts of the weights before it (docs/method.md, Heads)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from impress_format.parts.head import HEAD, StoredHead
from impress_format.records.fields import ValueBits
from impress_format.weights import substream_seed
from impress_learn.features.features import AT_ONCE, features_of, in_parts
from impress_learn.features.projected import projected_features
from impress_learn.features.projection import Projection
from impress_learn.features.trainable_suffix import CachedActivations, cache_activations, cut_off
from impress_learn.network.backbone import Backbone
from impress_learn.parts.part import Array, Beginning, Ground, Trainable, Weights
from impress_learn.parts.table import lay
from impress_learn.plan.few import FEW
from impress_learn.plan.tasks import residual_epochs
from impress_learn.streams.images import Images
from impress_learn.tasks.head.fit import Head, fit_head, ridge, store
from impress_learn.tasks.weights import begin_parts, laid_over
from impress_learn.training.config import TaskTraining
from impress_learn.training.loop import Rows, minimise

COPIES = 7
"""Augmented copies of each of few images that a head is learned from too."""

Restore = Callable[[Mapping[str, Array]], Mapping[str, object]]
"""Parts as they are stored, by name -> what they stand for; raises TrainingDiverged where a number is too large."""

AUGMENTED = 1
"""Augmented copies of each image that a residual is learned from too: two or eight gained nothing more."""


def learn_head(
    ground: Ground,
    beginning: Beginning,
    train: Images,
    measured: Images,
    *,
    classes: int,
    restore: Restore,
    on_step: Callable[[], None],
) -> tuple[dict[str, Array], float, float]:
    """The parts of a task as they are stored, by name, and its accuracy, as stored, on `measured` and in training.

    Features of images as they are, not augmented, are computed once. Beside parts of the weights, what their layers
    take of them and of AUGMENTED copies is.

    Raises:
        TrainingDiverged: loss or values became NaN or infinite, or too large to be stored.
    """
    projection, backbone, parts, fit = ground.projection, ground.backbone, beginning.parts, beginning.fit
    assert projection is not None
    rows = Rows(projected_features(backbone, projection, train), train.labels)
    # A part of the weights is learned with the head afterwards, by these images alone: what a head gains by others that
    # are imagined is lost then, and more (docs/results/photos.md, Beside what a user would store instead).
    few = len(train) < FEW and beginning.start is None and not parts.changes_features
    head = fit_head(
        rows,
        projection,
        fit,
        classes=classes,
        dimensions=parts.head or 0,
        bits=parts.head_bits,
        on_step=on_step,
        start=None if beginning.start is None else HEAD.of(beginning.start),
        copies=_with_copies(backbone, projection, train, rows, fit.seed) if few else None,
    )
    trainables = begin_parts(ground, beginning)
    if not trainables:
        tensors: dict[str, Array] = {HEAD.name: store(head, parts.head_bits)}
        restored = _head_of(restore(tensors))
        judged = Rows(projected_features(backbone, projection, measured), measured.labels)
        return tensors, _accuracy(restored, judged), _accuracy(restored, rows)
    touched = [name for one in trainables.values() for name in one.tensors]
    suffix = cut_off(backbone, touched)
    activations = cache_activations(suffix, train, augmented=AUGMENTED, seed=fit.seed)
    assert fit.epochs is not None
    weights = {name: backbone.weights[name] for name in touched if name in backbone.weights}
    head = _fit_together(
        weights,
        activations,
        projection,
        [*trainables.values()],
        head,
        replace(fit, epochs=residual_epochs(fit.epochs, len(train), fit.batch_size)),
        bits=parts.head_bits,
        on_step=on_step,
    )
    tensors = {HEAD.name: store(head, parts.head_bits), **{name: one.store() for name, one in trainables.items()}}
    values = restore(tensors)
    restored = _head_of(values)
    effective = lay(ground, {name: values[name] for name in trainables}, weights)

    def share(rows: CachedActivations) -> float:
        def placed(taken: Tensor) -> Tensor:
            return in_parts(lambda part: projection.project(suffix.features(effective, part)), taken)

        projected = []
        with torch.no_grad():
            for some in (slice(first, first + AT_ONCE) for first in range(0, len(rows), AT_ONCE)):
                projected.append(placed(rows.batch(some)[0]))
                if backbone.mirrored:
                    mirrored = suffix.prefix(rows.images.batch(some)[0].flip(3))
                    projected[-1] = (projected[-1] + placed(mirrored)) / 2
        return _accuracy(restored, Rows(torch.cat(projected), rows.images.labels))

    return tensors, share(cache_activations(suffix, measured)), share(activations)


def _with_copies(backbone: Backbone, projection: Projection, train: Images, rows: Rows, seed: int) -> Rows:
    """The rows of few images, and those of COPIES augmented copies of each."""
    generator = torch.Generator().manual_seed(substream_seed(seed, "copies"))
    copies = [projection.project(features_of(backbone, train, generator)) for _ in range(COPIES)]
    return Rows(torch.cat([rows.values, *copies]), rows.labels.repeat(1 + COPIES))


def _fit_together(
    weights: Weights,
    activations: CachedActivations,
    projection: Projection,
    trainables: Sequence[Trainable],
    start: Head,
    fit: TaskTraining,
    *,
    bits: ValueBits,
    on_step: Callable[[], None],
) -> Head:
    """Learn parts of the weights, and with them the head, which a ridge holds near `start`.

    Raises:
        TrainingDiverged: loss or values became NaN or infinite.
    """
    head = Head(start.weight.clone().requires_grad_(), start.bias.clone().requires_grad_())

    def logits(activations_of_batch: Tensor) -> Tensor:
        features = activations.suffix.features(laid_over(trainables, weights), activations_of_batch)
        return head.logits(projection.project(features), bits)

    minimise(
        logits,
        [*(parameter for one in trainables for parameter in one.parameters), head.weight, head.bias],
        activations,
        fit,
        on_step=on_step,
        penalty=lambda: ridge(head, start, len(activations)),
    )
    return Head(head.weight.detach(), head.bias.detach())


def _head_of(values: Mapping[str, object]) -> StoredHead:
    head = values[HEAD.name]
    assert isinstance(head, StoredHead)
    return head


def _accuracy(head: StoredHead, rows: Rows) -> float:
    weight, bias = (torch.from_numpy(values).to(rows.device) for values in (head.weight, head.bias))
    found = (rows.values[:, : weight.shape[1]] @ weight.T + bias).argmax(1)
    return int((found == rows.labels).sum()) / len(rows)
