"""Learning a task over pretrained weights: its head, and what of it is stored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from impress_format.errors import TrainingDiverged
from impress_format.head import StoredHead, restore_head
from impress_format.numbers import NumbersError
from impress_format.task_parts import StoredTask, TaskParts
from impress_learn.fits import TaskFit
from impress_learn.head.fit import Head, Rows, fit_head, store
from impress_learn.head.placed import placed_of
from impress_learn.loaded import LoadedBank
from impress_learn.plan import Parts
from impress_learn.streams.images import Images


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

    Images are learned from as they are, not augmented: their features are computed once.

    Raises:
        TrainingDiverged: loss or values became NaN or infinite, or too large to be stored.
    """
    projection = loaded.projection
    rows = Rows(placed_of(loaded.backbone, projection, train), train.labels)
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
    stored, restored = _as_stored(head, parts, classes)
    judged = Rows(placed_of(loaded.backbone, projection, measured), measured.labels)
    return TaskParts(head=stored), _accuracy(restored, judged), _accuracy(restored, rows)


def _as_stored(head: Head, parts: Parts, classes: int) -> tuple[npt.NDArray[np.uint8], StoredHead]:
    stored = store(head, parts.head_bits)
    try:
        return stored, restore_head(stored, parts.head_bits, classes, parts.head)
    except NumbersError as error:
        raise TrainingDiverged(f"the head {error}: lower the learning rate") from error


def _accuracy(head: StoredHead, rows: Rows) -> float:
    weight, bias = (torch.from_numpy(values).to(rows.device) for values in (head.weight, head.bias))
    found = (rows.values[:, : weight.shape[1]] @ weight.T + bias).argmax(1)
    return int((found == rows.labels).sum()) / len(rows)
