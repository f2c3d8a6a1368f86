"""Learning a task over pretrained weights: its head, and what of it is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from impress_format.errors import TrainingDiverged
from impress_format.head import StoredHead, restore_head
from impress_format.numbers import NumbersError
from impress_format.residual import restore_residual
from impress_format.task_parts import StoredTask, TaskParts
from impress_learn.features.features import AT_ONCE
from impress_learn.features.placed import placed_of
from impress_learn.features.rows import Rows
from impress_learn.features.tail import Begun, begin_all, cut_off
from impress_learn.fits import TaskFit
from impress_learn.head.fit import Head, fit_head, store
from impress_learn.head.with_residual import Both, first_values, fit_both
from impress_learn.loaded import LoadedBank
from impress_learn.plan.parts import Parts, has_same_residual
from impress_learn.plan.tasks import residual_epochs
from impress_learn.residual import HashedResidual, make_residual
from impress_learn.streams.images import Images

AUGMENTED = 1
"""Augmented copies of each image that a residual is learned from too: two or eight gained nothing more."""


def learn_head(
    loaded: LoadedBank,
    parts: Parts,
    fit: TaskFit,
    train: Images,
    measured: Images,
    *,
    classes: int,
    start: StoredTask | None,
    on_step: Callable[[], None],
) -> tuple[TaskParts, float, float]:
    """The parts of a task as they are stored, and its accuracy, as stored, on `measured` and in training.

    Features of images as they are, not augmented, are computed once. Of a residual, what its layers take of them and of
    AUGMENTED copies is.

    Raises:
        TrainingDiverged: loss or values became NaN or infinite, or too large to be stored.
    """
    projection, backbone = loaded.projection, loaded.adapted
    rows = Rows(placed_of(backbone, projection, train), train.labels)
    head = fit_head(
        rows,
        projection,
        fit,
        classes=classes,
        dimensions=parts.head,
        bits=parts.head_bits,
        on_step=on_step,
        start=None if start is None else start.head,
    )
    if not parts.residual:
        stored, restored = _head_as_stored(head, parts, classes)
        judged = Rows(placed_of(backbone, projection, measured), measured.labels)
        return TaskParts(head=stored), _accuracy(restored, judged), _accuracy(restored, rows)
    spec, device = loaded.bank.backbone, loaded.basis.device
    residual = make_residual(spec, parts.residual, parts.residual_bits, device, last=parts.residual_layers)
    tail = cut_off(backbone, residual.places)
    begun = begin_all(tail, train, augmented=AUGMENTED, seed=fit.seed)
    values = first_values(residual, fit)
    if start is not None and start.residual is not None and has_same_residual(start, parts):
        values = torch.from_numpy(start.residual)
    assert fit.epochs is not None
    both = fit_both(
        backbone,
        begun,
        projection,
        residual,
        Both(head, values),
        replace(fit, epochs=residual_epochs(fit.epochs)),
        bits=parts.head_bits,
        on_step=on_step,
    )
    stored, restored = _head_as_stored(both.head, parts, classes)
    kept, effective = _residual_as_stored(loaded, both.values, residual, parts)

    def share(rows: Begun) -> float:
        with torch.no_grad():
            placed = [
                projection.project(tail.features(effective, rows.batch(slice(first, first + AT_ONCE))[0]))
                for first in range(0, len(rows), AT_ONCE)
            ]
        return _accuracy(restored, Rows(torch.cat(placed), rows.images.labels))

    return TaskParts(head=stored, residual=kept), share(begin_all(tail, measured)), share(begun)


def _head_as_stored(head: Head, parts: Parts, classes: int) -> tuple[npt.NDArray[np.uint8], StoredHead]:
    stored = store(head, parts.head_bits)
    try:
        return stored, restore_head(stored, parts.head_bits, classes, parts.head)
    except NumbersError as error:
        raise TrainingDiverged(f"the head {error}: lower the learning rate") from error


def _residual_as_stored(
    loaded: LoadedBank, values: Tensor, residual: HashedResidual, parts: Parts
) -> tuple[npt.NDArray[np.uint8], dict[str, Tensor]]:
    """The bytes of a residual, and the weights of its layers as these give them."""
    stored = residual.store(values)
    covered = loaded.bank.backbone.residual_layers(parts.residual_layers)
    try:
        restored = restore_residual(stored, parts.residual_bits, covered)
    except NumbersError as error:
        raise TrainingDiverged(f"the residual {error}: lower the learning rate") from error
    weights = {name: loaded.adapted.weights[name] for name in residual.places}
    return stored, residual.add_to(weights, weights, torch.from_numpy(restored).to(loaded.basis.device))


def _accuracy(head: StoredHead, rows: Rows) -> float:
    weight, bias = (torch.from_numpy(values).to(rows.device) for values in (head.weight, head.bias))
    found = (rows.values[:, : weight.shape[1]] @ weight.T + bias).argmax(1)
    return int((found == rows.labels).sum()) / len(rows)
