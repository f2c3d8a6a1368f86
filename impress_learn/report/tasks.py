"""What tasks say by themselves: their coefficients, how they lie to each other, and what bytes buy."""

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
from impress_format.parts.vote import VOTE
from impress_format.records.network import BackboneSpec
from impress_format.tasks.file import StoredTask, TaskSummary
from impress_format.tasks.sizes import Measured
from impress_learn.report.masks import MOST_MASKS, FloatArray, MaskRow
from impress_learn.report.words import spread_evenly

MOST_READ = 400
"""Tasks whose numbers are read; of more, these are spread evenly in the order of their names."""
MOST_SHOWN = 24
"""Tasks that a table or a picture has a row for, likewise."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
DIAL = (1, 4, 16, 64, 256, 1024)
"""Granularities that the dial has a mark for."""
_LABELS = frozenset({"coefficients", "masks", "granularity"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRow:
    """One task as the table has it; `parts` says what it has: `30 coefficients, residual 512`."""

    name: str
    reference: str
    parts: str
    granularity: int
    bytes: int
    accuracy: float | None
    train_accuracy: float | None
    held_out: bool


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Weighing:
    """What each mask weighs in tasks.

    Attributes:
        kind: `alpha`, or `vote` for shares of masks that answer by themselves.
        tasks: how many of those that were read weigh masks so.
        names: references of the tasks that have a row.
        by_task: float64 (rows, masks), mean over layers and groups; NaN for a mask that came after the task.
        by_layer: float64 (layers, masks), mean of the absolute value over all of these tasks and groups; of a vote
            no layer.
    """

    kind: str
    tasks: int
    names: tuple[str, ...]
    by_task: FloatArray
    by_layer: FloatArray


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A granularity on the dial: its coefficients, and the bytes of a task that has them as int8 and nothing else."""

    granularity: int
    coefficients: int
    bytes: int


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TaskFacts:
    """What is known of the tasks of a bank.

    Attributes:
        number: of all.
        read: how many were read, at most MOST_READ.
        rows: at most MOST_SHOWN of them.
        bytes, accuracies: of all tasks (accuracies of those that have one), float64, in the order of their names.
        sizes_of_accuracies: bytes of the tasks that have an accuracy.
        dial: empty where there is no mask.
    """

    number: int
    read: int
    rows: tuple[TaskRow, ...]
    bytes: FloatArray
    accuracies: FloatArray
    sizes_of_accuracies: FloatArray
    weighings: tuple[Weighing, ...]
    maps: tuple[TaskMap, ...]
    dial: tuple[Mark, ...]


def gather_tasks(bank: Bank, masks: Sequence[MaskRow], measured: Measured) -> TaskFacts:
    """What the tasks of a bank say.

    Args:
        masks: its masks, as gather_masks gives them.
        measured: its tasks, as measure_tasks gives them.

    Raises:
        FormatError: a task that was read is damaged.
    """
    summaries = measured.summaries
    chosen = [summaries[place] for place in spread_evenly(len(summaries), MOST_READ)]
    stored = [bank.read_stored(summary.name) for summary in chosen]
    shown = set(spread_evenly(len(chosen), MOST_SHOWN))
    known = [summary for summary in summaries if summary.accuracy is not None]
    return TaskFacts(
        number=len(summaries),
        read=len(chosen),
        rows=tuple(_row(summary) for place, summary in enumerate(chosen) if place in shown),
        bytes=np.array([summary.bytes for summary in summaries], dtype=np.float64),
        accuracies=np.array([summary.accuracy for summary in known], dtype=np.float64),
        sizes_of_accuracies=np.array([summary.bytes for summary in known], dtype=np.float64),
        weighings=tuple(one for one in (_weigh_alpha(bank, stored), _weigh_votes(bank, stored)) if one is not None),
        maps=tuple(one for one in (_map_of_alpha(bank, stored), _map_of_signatures(bank, stored, masks)) if one),
        dial=_dial(bank, chosen, len(bank.manifest.masks)),
    )


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


def _row(summary: TaskSummary) -> TaskRow:
    facts = summary.facts
    words = [f"{facts['coefficients']:,} coefficients"] if facts.get("coefficients") else []
    words += [f"{name} {value:,}" for name, value in facts.items() if value and name not in _LABELS]
    return TaskRow(
        name=summary.name,
        reference=summary.task,
        parts=", ".join(words) or "—",
        granularity=facts.get("granularity", 1),
        bytes=summary.bytes,
        accuracy=summary.accuracy,
        train_accuracy=summary.train_accuracy,
        held_out=summary.images == "held-out",
    )


def _weigh_alpha(bank: Bank, stored: Sequence[StoredTask]) -> Weighing | None:
    masks, layers = len(bank.manifest.masks), len(bank.backbone.masked_layers)
    total, tasks = np.zeros((layers, masks)), np.zeros((layers, masks))
    found: list[tuple[str, FloatArray]] = []
    for task in stored:
        if (alpha := ALPHA.of(task)) is None:
            continue
        granularity, k = task.record.settings.alpha.granularity, len(alpha.values)
        size = layer_means(np.abs(alpha.values), granularity, bank.backbone).T
        total[:, :k] += np.nan_to_num(size)
        tasks[:, :k] += np.isfinite(size)
        row = np.full(masks, np.nan)
        row[:k] = np.nanmean(layer_means(alpha.values, granularity, bank.backbone), axis=1)
        found.append((task.record.task, row))
    if not found:
        return None
    with np.errstate(invalid="ignore"):
        return _weighing("alpha", found, total / tasks)


def _weigh_votes(bank: Bank, stored: Sequence[StoredTask]) -> Weighing | None:
    found = []
    for task in stored:
        if (shares := VOTE.of(task)) is not None:
            row = np.full(len(bank.manifest.masks), np.nan)
            row[: len(shares)] = shares
            found.append((task.record.task, row))
    return _weighing("vote", found, np.zeros((0, len(bank.manifest.masks)))) if found else None


def _weighing(kind: str, found: Sequence[tuple[str, FloatArray]], by_layer: FloatArray) -> Weighing:
    shown = [found[place] for place in spread_evenly(len(found), MOST_SHOWN)]
    return Weighing(
        kind=kind,
        tasks=len(found),
        names=tuple(name for name, _ in shown),
        by_task=np.stack([row for _, row in shown]),
        by_layer=by_layer,
    )


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


def _map_of_alpha(bank: Bank, stored: Sequence[StoredTask]) -> TaskMap | None:
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


def _map_of_signatures(bank: Bank, stored: Sequence[StoredTask], masks: Sequence[MaskRow]) -> TaskMap | None:
    """Tasks, and tasks that masks were trained for, by what their images look like."""
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


def _dial(bank: Bank, chosen: Sequence[TaskSummary], masks: int) -> tuple[Mark, ...]:
    """Bytes of a task at each granularity up to the finest; beside its coefficients it has what tasks have here."""
    layers = bank.backbone.masked_layers
    if not masks or not layers:
        return ()
    finest = max(layer.shape[0] for layer in layers)
    beside = [
        summary.bytes - (masks_of + 2) * summary.facts["coefficients"] // masks_of
        for summary in chosen
        if (masks_of := summary.facts.get("masks", 0)) and not summary.facts.get("residual")
    ]
    fixed = max(0, round(float(np.median(beside)))) if beside else 0
    marks = []
    for granularity in sorted({*(one for one in DIAL if one < finest), finest}):
        columns = sum(alpha_columns(layers, granularity))
        size = fixed + (masks + 2) * columns
        marks.append(Mark(granularity=granularity, coefficients=masks * columns, bytes=size))
    return tuple(marks)
