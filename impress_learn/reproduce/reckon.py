"""What a reproduction still takes, told before anything is trained: some steps are timed, all others are counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from impress_format.bank import Bank
from impress_format.container.codec import entropy_bytes
from impress_format.disk.files import file_size
from impress_format.operations.prefix import first_masks
from impress_format.records.masks import supermask_sizes
from impress_learn.jobs.add import add_tasks
from impress_learn.plan.asked import Masks
from impress_learn.progress import Progress
from impress_learn.reproduce.bench import Bench, Cell
from impress_learn.reproduce.cells import COEFFICIENTS, Measurement
from impress_learn.reproduce.scales import Stream
from impress_learn.running.device import Workers

_WARM, _TIMED = 4, 12
_MOST_MASKS = 100
"""A step over more masks is reckoned from one over so many."""
_FORWARD = 1 / 3
"""Time of a forward pass, relative to a training step."""
_TESTED = 1 / 7
"""Share of the images of a task that it is tested on."""
_START = 6.0
"""Seconds until workers are there, for each bank that is made; they import torch."""
_TASK_BYTES = 400


@dataclass(frozen=True)
class Reckoning:
    """What is still to be done.

    Attributes:
        masks: to be trained.
        fits: tasks whose coefficients are to be learned.
        seconds: about, with the workers there are.
        bytes: on disk, about, of what is not there yet.
    """

    masks: int
    fits: int
    seconds: float
    bytes: float


@dataclass(frozen=True)
class _Steps:
    """What a training takes: seconds a step, and how many steps."""

    seconds: float
    count: int

    @property
    def total(self) -> float:
        return self.seconds * self.count


class _Enough(Exception):
    """Ends a job that was only timed."""


def reckon(bench: Bench, wanted: Sequence[tuple[Measurement, Cell]]) -> Reckoning:
    """Count what is missing, and time some steps of each kind in a folder that is thrown away.

    Raises:
        DataError: data are missing.
    """
    all_parts = [_reckon(bench, stream, work) for stream, work in _by_stream(wanted).items()]
    return Reckoning(
        sum(one.masks for one in all_parts),
        sum(one.fits for one in all_parts),
        sum(one.seconds for one in all_parts),
        sum(one.bytes for one in all_parts),
    )


def _by_stream(wanted: Iterable[tuple[Measurement, Cell]]) -> dict[Stream, list[tuple[Measurement, Cell]]]:
    found: dict[Stream, list[tuple[Measurement, Cell]]] = {}
    for measurement, cell in dict.fromkeys(wanted):
        found.setdefault(cell.stream, []).append((measurement, cell))
    return found


@dataclass(frozen=True)
class _Planned:
    """A bank that is to be there: its masks, whether they are trained in it, and whether for several tasks."""

    size: int
    density: float
    trained: bool
    several: bool


def _banks(bench: Bench, work: Sequence[tuple[Measurement, Cell]]) -> dict[Path, _Planned]:
    """Banks by their folders: pools, masks of new tasks, and first masks of pools."""
    found = {}
    for measurement, cell in work:
        setting, density = bench.setting(cell), cell.density
        size, several = setting.size_of(cell.kind, density), cell.kind == "heterogeneous"
        found[bench.pool_path(cell)] = _Planned(size, density, cell.kind != "random", several)
        if measurement.own:
            found[bench.own_path(cell)] = _Planned(len(setting.new), density, True, len(setting.new) > 1)
        for count in measurement.counts(setting, cell):
            found[bench.first_path(cell, count)] = _Planned(count, density, False, several)
    return found


def _reckon(bench: Bench, stream: Stream, work: Sequence[tuple[Measurement, Cell]]) -> Reckoning:
    setting = bench.scale.settings[stream]
    banks = _banks(bench, work)
    masks = sum(_missing(bench.there(path), one.size) for path, one in banks.items() if one.trained)
    loads = [(measurement.alone, measurement.load(bench, cell)) for measurement, cell in work]
    alone = [count for by_one, load in loads if by_one for count in load.fits]
    fits = [count for by_one, load in loads if not by_one for count in load.fits]
    passes = sum(load.passes for _, load in loads)
    if not masks and not fits and not alone and not passes:
        return Reckoning(0, 0, 0.0, 0.0)
    missing = [one for path, one in banks.items() if bench.there(path) is None]
    workers = (bench.device.count or 1) if isinstance(bench.device, Workers) else 1
    with TemporaryDirectory() as folder:
        timed = _time(bench, work[0][1], Path(folder), fits + alone)
    images_pass = timed.mask.total / (setting.masks.epochs or 1) * _FORWARD
    # What was trained is measured: a mask on test images, coefficients on those of training too.
    shared = masks * (timed.mask.total + _TESTED * images_pass) + sum(timed.fit(one) + images_pass for one in fits)
    starts = 0.0 if workers == 1 else _START * len(missing)
    return Reckoning(
        masks,
        len(fits) + len(alone),
        shared / workers + starts + sum(timed.fit(one) + images_pass for one in alone) + passes * images_pass,
        sum(timed.bank_bytes[one.several] + one.size * timed.mask_bytes(one.density) for one in missing)
        + len(fits) * _TASK_BYTES,
    )


@dataclass(frozen=True)
class _Timed:
    """What things take on a stream.

    Attributes:
        mask: the steps of a mask.
        fit: seconds of one task over so many masks.
        bank_bytes: of a bank without its masks: of one task, and of several, which can be told apart.
        mask_bytes: of a mask of this density, and what the manifest has of it.
    """

    mask: _Steps
    fit: Callable[[int], float]
    bank_bytes: tuple[float, float]
    mask_bytes: Callable[[float], float]


def _time(bench: Bench, cell: Cell, folder: Path, fits: Sequence[int]) -> _Timed:
    """Time some steps, in a folder that will be thrown away."""
    setting = bench.setting(cell)
    quiet = replace(bench, device=bench.alone)
    density, task = setting.densities[0], setting.new_tasks()[:1]
    one = Masks(density=density, allocation=setting.allocation)

    def train(progress: Progress) -> None:
        replace(quiet, progress=progress).bank(folder / "mask", setting, task, one)

    mask = _timed(train)
    most = min(_MOST_MASKS, max(fits, default=1))
    several = setting.basis_tasks("heterogeneous", density)[:2]
    random = quiet.bank(folder / "random", setting, several, replace(one, masks_per_task=0, random_masks=most))
    least = min(fits, default=1)
    few, many = (_time_fit(quiet, cell, random, count, folder) for count in (least, most))
    slope = max((many.seconds - few.seconds) / (most - least), 0.0) if most > least else 0.0
    layers = random.backbone.masked_layers

    def mask_bytes(density: float) -> float:
        ones = supermask_sizes(layers, density, setting.allocation)
        return sum(entropy_bytes(layer.size, count) for layer, count in zip(layers, ones, strict=True))

    of_masks = sum(file_size(random.mask_path(index)) for index in range(most)) + file_size(random.manifest_path)
    beside = of_masks / most - mask_bytes(density)
    return _Timed(
        mask,
        lambda count: few.count * (few.seconds + slope * (count - least)),
        (_beside_masks(folder / "mask"), _beside_masks(random.path)),
        lambda density: mask_bytes(density) + beside,
    )


def _beside_masks(bank: Path) -> float:
    """Bytes of what a bank keeps once, beside its manifest."""
    return sum(file_size(path) for path in bank.glob("*.safetensors"))


def _time_fit(bench: Bench, cell: Cell, random: Bank, count: int, folder: Path) -> _Steps:
    setting = bench.setting(cell)
    bank = first_masks(random, count, folder / f"first-{count}")

    def fit(progress: Progress) -> None:
        add_tasks(
            bank.path,
            setting.new_tasks()[:1],
            fit=replace(setting.alpha, seed=bench.seed),
            parts=COEFFICIENTS,
            device=bench.device,
            data_dir=bench.data_dir,
            progress=progress,
        )

    return _timed(fit)


def _timed(job: Callable[[Progress], None]) -> _Steps:
    """Seconds that a step of this job takes; it is ended after some."""
    totals: list[int] = []
    times: list[float] = []

    def step() -> None:
        times.append(time.perf_counter())
        if len(times) == _WARM + _TIMED:
            raise _Enough

    with suppress(_Enough):
        job(Progress(begin=totals.append, step=step))
    start = min(_WARM, len(times) // 2)
    seconds = (times[-1] - times[start]) / (len(times) - 1 - start) if len(times) > start + 1 else 0.0
    return _Steps(seconds, totals[-1] if totals else 0)


def _missing(bank: Bank | None, size: int) -> int:
    """Masks that are not trained yet."""
    return size if bank is None else len(bank.missing_masks())
