"""Tasks as points of a plane: by what their masks weigh, and by what their images look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER
from impress_format.parts.alpha import ALPHA, alpha_columns
from impress_format.parts.feature_signature import restore_feature_signatures
from impress_format.parts.pixel_signature import MOST_LEVEL, restore_pixel_signatures
from impress_format.parts.signature import SIGNATURE
from impress_format.records.network import BackboneSpec
from impress_format.tasks.file import StoredTask
from impress_learn.report.masks import MOST_MASKS, FloatArray, MaskRow
from impress_learn.report.words import spread_evenly


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TaskMap:
    """Tasks as points: the two directions in which they differ most (principal components).

    Attributes:
        kind: what they are compared by, `alpha` or `signature`.
        points: float64 (n, 2), centred.
        labels: their references.
        masks: for each the mask that was trained for it, None of a stored task.
        held: share of the variance that each axis has.
    """

    kind: str
    points: FloatArray
    labels: tuple[str, ...]
    masks: tuple[int | None, ...]
    held: tuple[float, float]


def layer_means(alpha: npt.NDArray[np.float32], granularity: int, backbone: BackboneSpec) -> FloatArray:
    """Coefficients (masks, columns) as means over the groups of each layer, float64 (masks, layers); NaN for a last
    layer that another part of the task has to itself.
    """
    layers = backbone.masked_layers
    widths = alpha_columns(layers, granularity)
    if sum(widths) != alpha.shape[1]:
        widths = widths[:-1]
    means = np.full((len(alpha), len(layers)), np.nan)
    start = 0
    for place, width in enumerate(widths):
        means[:, place] = alpha[:, start : start + width].mean(axis=1, dtype=np.float64)
        start += width
    return means


def principal_plane(rows: FloatArray) -> tuple[FloatArray, tuple[float, float]]:
    """Rows (n, values) on the two directions in which they differ most, (n, 2), and the share of the variance of each.

    The sign of a direction is that its value farthest from 0 is positive, so that equal rows give equal points.
    """
    centred = rows - rows.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    directions, sizes = directions[:2], sizes**2
    farthest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(len(directions)), farthest])[:, np.newaxis]
    points = np.zeros((len(rows), 2))
    points[:, : len(directions)] = centred @ directions.T
    total = float(sizes.sum()) or 1.0
    held = [float(size) / total for size in sizes[:2]] + [0.0, 0.0]
    return points, (held[0], held[1])


@dataclass
class _Points:
    rows: list[FloatArray] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    masks: list[int | None] = field(default_factory=list)

    def add(self, row: FloatArray, label: str, mask: int | None = None) -> None:
        self.rows.append(row)
        self.labels.append(label)
        self.masks.append(mask)

    def map(self, kind: str) -> TaskMap | None:
        if len(self.rows) < 3:
            return None
        points, held = principal_plane(np.stack(self.rows))
        if not np.abs(points).max() > 0:
            return None  # all of them alike
        return TaskMap(kind=kind, points=points, labels=tuple(self.labels), masks=tuple(self.masks), held=held)


def map_of_alpha(bank: Bank, stored: Sequence[StoredTask]) -> TaskMap | None:
    """Tasks by what their masks weigh in each layer; a mask that came after a task weighs nothing in it."""
    masks, layers = len(bank.manifest.masks), len(bank.backbone.masked_layers)
    points = _Points()
    for task in stored:
        if (alpha := ALPHA.of(task)) is not None:
            row = np.zeros((masks, layers))
            row[: len(alpha.values)] = np.nan_to_num(
                layer_means(alpha.values, task.record.settings.alpha.granularity, bank.backbone)
            )
            points.add(row.reshape(-1), task.record.task)
    return points.map("alpha")


def map_of_signatures(bank: Bank, stored: Sequence[StoredTask], masks: Sequence[MaskRow]) -> TaskMap | None:
    """Tasks, and tasks that masks were trained for, by what their images look like.

    Raises:
        FormatError: the file that signatures are made with is damaged.
    """
    kind = bank.signature_kind
    found = [(signature, task.record.task, None) for task in stored if (signature := SIGNATURE.of(task)) is not None]
    signatures = [np.frombuffer(one, dtype=np.uint8) for one, _, _ in found]
    labels: list[tuple[str, int | None]] = [(label, None) for _, label, _ in found]
    trained = [row for row in masks if row.bytes is not None]
    for row in (trained[place] for place in spread_evenly(len(trained), MOST_MASKS)):
        if kind is not None and (own := bank.read_mask_signature(row.index)) is not None:
            signatures.append(own)
            labels.append((row.label, row.index))
    if kind is None or len(signatures) < 3:
        return None
    points = _Points()
    for row_of, (label, mask) in zip(_numbers_of(bank, kind, np.stack(signatures)), labels, strict=True):
        points.add(row_of, label, mask)
    return points.map("signature")


def _numbers_of(bank: Bank, kind: str, signatures: npt.NDArray[np.uint8]) -> FloatArray:
    """What signatures (n, 64) say of where their tasks lie, float64 (n, values)."""
    if kind == "features":
        return restore_feature_signatures(signatures, bank.directions).weight.astype(np.float64)
    between = bank.files.read(TASK_CLASSIFIER)[1].between
    restored = restore_pixel_signatures(signatures, len(between))
    if len(between) < 2:
        return np.asarray(2.0 * np.unpackbits(restored.signs, axis=1) - 1.0)
    return restored.levels.astype(np.float64) * np.sqrt(between.astype(np.float64)) * 4 / MOST_LEVEL
