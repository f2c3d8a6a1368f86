"""What tasks say by themselves: their coefficients, how they lie to each other, and what bytes buy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from impress_format.bank import Bank
from impress_format.parts.alpha import ALPHA, alpha_columns
from impress_format.parts.vote import VOTE
from impress_format.tasks.file import StoredTask, TaskSummary
from impress_format.tasks.sizes import Measured
from impress_learn.report.maps import TaskMap, layer_means, map_of_alpha, map_of_signatures
from impress_learn.report.masks import FloatArray, MaskRow
from impress_learn.report.words import spread_evenly

MOST_READ = 400
"""Tasks whose numbers are read; of more, these are spread evenly in the order of their names."""
MOST_SHOWN = 24
"""Tasks that a table or a picture has a row for, likewise."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A granularity on the dial: its coefficients, and the bytes of a task that has them as int8 (in a bank of format
    version 1 as float32, which is all that it knows) and nothing else.
    """

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
        maps=tuple(one for one in (map_of_alpha(bank, stored), map_of_signatures(bank, stored, masks)) if one),
        dial=_dial(bank, chosen, stored),
    )


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


def _dial(bank: Bank, chosen: Sequence[TaskSummary], stored: Sequence[StoredTask]) -> tuple[Mark, ...]:
    """Bytes of a task at each granularity up to the finest; beside its coefficients it has what tasks have here."""
    masks, old = len(bank.manifest.masks), bank.manifest.format_version == 1
    layers = bank.backbone.masked_layers
    if not masks or not layers:
        return ()
    finest = max(layer.shape[0] for layer in layers)
    beside = [
        summary.bytes - _alpha_bytes(len(alpha.values), alpha.values.shape[1], float32=old)
        for summary, task in zip(chosen, stored, strict=True)
        if (alpha := ALPHA.of(task)) is not None
        and task.only == ALPHA.name
        and alpha.type == ("float32" if old else "int8")
    ]
    fixed = max(0, round(float(np.median(beside)))) if beside else 0
    marks = []
    for granularity in sorted({*(one for one in DIAL if one < finest), finest}):
        columns = sum(alpha_columns(layers, granularity))
        size = fixed + _alpha_bytes(masks, columns, float32=old)
        marks.append(Mark(granularity=granularity, coefficients=masks * columns, bytes=size))
    return tuple(marks)


def _alpha_bytes(masks: int, columns: int, *, float32: bool) -> int:
    """Bytes of α: four a coefficient, or one and for each column two of its scale."""
    return 4 * masks * columns if float32 else (masks + 2) * columns
