"""What a bank costs on disk, beside what SupSup or one model for each task would (method.md; paper, Table 2)."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass

from impress_format.bank import Bank
from impress_format.bank_files.table import files_of
from impress_format.container.codec import entropy_bytes
from impress_format.disk.files import file_size
from impress_format.errors import BankMismatch, UsageError
from impress_format.limits import MAX_INTEGER
from impress_format.records.masks import supermask_sizes
from impress_format.tasks.sizes import Measured, measure_tasks

_FLOAT = 4
_USUAL_DENSITY = 0.1
"""Density of the masks that a bank without masks is compared with."""


@dataclass(frozen=True, kw_only=True)
class DiskBytes:
    """Bytes as they lie on disk. The backbone is drawn from its seed; only calibration images are stored for it."""

    recogniser: int
    projection: int
    backbone: int
    masks: int
    tasks: int
    manifest: int

    @property
    def total(self) -> int:
        return self.backbone + self.recogniser + self.projection + self.masks + self.tasks + self.manifest


@dataclass(frozen=True, kw_only=True)
class Alternatives:
    """One quantity for each way to store a task without a basis: SupSup's mask in three encodings, or a full model.

    `float_head` is for networks on weights that others trained, None for others: a last layer of float32 and its bias,
    what is stored for a task of features.
    """

    index16: float
    bitmap: float
    compressed: float
    full_model: float
    float_head: float | None = None


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Storage of a bank that serves `tasks_served` tasks.

    Attributes:
        per_task_bytes: mean size of a task, in a file of its own or in a pack; before any is stored, None.
        amortised_bytes: everything on disk, divided by the tasks served; None where there is none yet.
        entropy_bytes: H(density) * n, what one mask of independent bits would take.
        alternatives: bytes for one task, stored the other way.
        savings: how many times less this bank takes than the other way, for the same tasks; None likewise.
        task_parts: of the bytes of tasks, how many each part takes; the rest, `record`, is names and checksums.
        break_even_tasks: from how many tasks on the bank is smaller than the other way; None if never.
        pretrained: where weights come from that others trained, and that no byte here counts; None without.
    """

    weights: int
    layers: int
    masks: int
    density: float
    stored_tasks: int
    tasks_served: int
    bytes: DiskBytes
    per_task_bytes: float | None
    task_parts: dict[str, int]
    amortised_bytes: float | None
    entropy_bytes: float
    alternatives: Alternatives
    savings: Alternatives | None
    break_even_tasks: dict[str, int | None]
    pretrained: str | None = None


def measure_storage(bank: Bank, total_tasks: int | None = None, *, stored: Measured | None = None) -> Storage:
    """Measure a bank, as it is or grown to `total_tasks` tasks with files of the mean size it has.

    The tasks served are those of the trained masks, each with its own mask, and those stored.

    Args:
        stored: what `measure_tasks` gave of its tasks, if that is known already.

    Raises:
        UsageError: `total_tasks` is less than the masks alone serve, or no task is stored to take the size from.
        BankMismatch: no mask is trained yet.
        FormatError: a mask file is damaged.
    """
    missing = set(bank.missing_masks())
    trained = [index for index in range(len(bank.manifest.masks)) if index not in missing]
    if not trained and bank.manifest.masks:
        raise BankMismatch(f"{bank.path} has no trained mask yet: run `impress bank create` again")
    records = [bank.read_mask_record(index) for index in trained]
    mask_sizes = [file_size(bank.mask_path(index)) for index in trained]
    stored = stored or measure_tasks(bank.tasks)
    summaries, task_bytes = stored.summaries, stored.bytes
    mean_task = task_bytes / len(summaries) if summaries else None

    basis_tasks = {record.plan.task for record in records if record.plan.task is not None}
    other_tasks = {summary.task for summary in summaries} - basis_tasks
    served = len(basis_tasks) + len(other_tasks)
    kept: Counter[str] = Counter()
    for file in files_of(bank.files):
        kept[file.counted_as] += file_size(bank.files.path(file))
    disk = DiskBytes(
        backbone=kept["backbone"],
        recogniser=kept["recogniser"],
        projection=kept["projection"],
        masks=sum(mask_sizes),
        tasks=task_bytes,
        manifest=file_size(bank.manifest_path),
    )
    total = float(disk.total)
    if total_tasks is not None:
        total += _growth(total_tasks, served, len(basis_tasks), mean_task)
        served = total_tasks

    layers = bank.backbone.masked_layers
    weights = bank.backbone.weights
    each_ones = [record.ones for record in records] or [supermask_sizes(layers, _USUAL_DENSITY)]
    ones = sum(map(sum, each_ones)) / len(each_ones)
    entropy = sum(
        entropy_bytes(layer.size, count) for counts in each_ones for layer, count in zip(layers, counts, strict=True)
    ) / len(each_ones)
    alternatives = Alternatives(
        index16=2.0 * ones,
        bitmap=float(math.ceil(weights / 8)),
        compressed=sum(mask_sizes) / len(mask_sizes) if mask_sizes else entropy,
        full_model=float(_FLOAT * weights),
        float_head=float(_FLOAT * (layers[-1].size + layers[-1].shape[0])) if bank.backbone.pretrained else None,
    )
    amortised = total / served if served else None
    ways = {way: size for way, size in asdict(alternatives).items() if size is not None}
    fixed = disk.total - disk.tasks
    return Storage(
        pretrained=None if bank.backbone.pretrained is None else bank.backbone.pretrained.source,
        weights=weights,
        layers=len(layers),
        masks=len(trained),
        density=ones / weights if records else 0.0,
        stored_tasks=len(summaries),
        tasks_served=served,
        bytes=disk,
        per_task_bytes=mean_task,
        task_parts={**stored.part_bytes, "record": task_bytes - sum(stored.part_bytes.values())},
        amortised_bytes=amortised,
        entropy_bytes=entropy,
        alternatives=alternatives,
        savings=None if amortised is None else Alternatives(**{way: size / amortised for way, size in ways.items()}),
        break_even_tasks={way: _break_even(size, fixed, mean_task, len(basis_tasks)) for way, size in ways.items()},
    )


def _growth(total_tasks: int, served: int, basis_tasks: int, mean_task: float | None) -> float:
    """Bytes that growing (or shrinking) to `total_tasks` adds."""
    if total_tasks > MAX_INTEGER:
        raise UsageError(f"`total_tasks` {total_tasks}: expected at most {MAX_INTEGER:,}")
    if total_tasks < max(basis_tasks, 1):
        raise UsageError(f"`total_tasks` {total_tasks}: the masks alone serve {basis_tasks} tasks")
    if mean_task is None:
        raise UsageError("`total_tasks` needs one stored task to take the size from: add one with `impress task add`")
    return (total_tasks - served) * mean_task


def _break_even(other: float, fixed: int, mean_task: float | None, basis_tasks: int) -> int | None:
    """Least T with fixed + (T - basis_tasks) * mean_task < T * other."""
    if mean_task is None or other <= mean_task:
        return None
    return max(basis_tasks, math.floor((fixed - basis_tasks * mean_task) / (other - mean_task)) + 1)
