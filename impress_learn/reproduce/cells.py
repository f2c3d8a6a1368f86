"""What is measured on a cell: coefficients of new tasks, masks as they are, tasks of the masks themselves.

Each measurement says beforehand how much it trains (`Load`), so that its time can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from impress_format.bank import Bank
from impress_learn.jobs.add import add_tasks
from impress_learn.jobs.evaluate import evaluate
from impress_learn.jobs.identify import evaluate_basis_gn, evaluate_gn
from impress_learn.parts.table import Parts
from impress_learn.reproduce.bench import Bench, Cell, Row
from impress_learn.reproduce.scales import Setting

COEFFICIENTS = Parts(signature=False, vote=False)
"""Coefficients alone, as the paper has them."""
_GROUPS = 10


@dataclass(frozen=True)
class Load:
    """What is still to be done for a measurement.

    Attributes:
        fits: of each task that is learned, over how many masks.
        passes: how many times all images of a task go through the network, nothing being trained.
    """

    fits: tuple[int, ...] = ()
    passes: int = 0


@dataclass(frozen=True)
class Measurement:
    """Something that is measured on a cell.

    Attributes:
        rows: measures it.
        load: what of it is still to be done.
        counts: of how many first masks it takes a bank of their own.
        own: whether it takes the masks of new tasks too.
        alone: whether one process does it, however many workers there are.
    """

    rows: Callable[[Bench, Cell], Iterator[Row]]
    load: Callable[[Bench, Cell], Load]
    counts: Callable[[Setting, Cell], tuple[int, ...]]
    own: bool = False
    alone: bool = False


def _combined(bench: Bench, cell: Cell) -> Iterator[Row]:
    """New tasks under combinations of masks, under a mask of their own, and under masks of others."""
    setting, own = bench.setting(cell), bench.own(cell)
    for index, plan in enumerate(own.manifest.masks):
        measured = own.read_mask_record(index).accuracy
        assert measured is not None
        yield cell.row("own mask", 1, plan.task, measured, kind="own")
    for count in setting.counts_of(cell.kind, cell.density):
        bank = bench.first(cell, count)
        for task in add_tasks(
            bank.path,
            setting.new_tasks(),
            fit=replace(setting.alpha_of(cell.kind), seed=bench.seed),
            parts=COEFFICIENTS,
            device=bench.device,
            data_dir=bench.data_dir,
            progress=bench.quiet,
        ):
            yield cell.row("combined", count, task.task, task.accuracy)
    if cell.kind != "random":
        yield from _controls(bench, cell, bank)


def _controls(bench: Bench, cell: Cell, bank: Bank) -> list[Row]:
    """New tasks under masks of other tasks: their mean, and the one that does best on training images."""
    count = len(bank.manifest.masks)

    def measure() -> Iterator[Row]:
        for one in evaluate(
            bank.path, wrong_mask=True, device=bench.alone, data_dir=bench.data_dir, progress=bench.progress
        ):
            yield cell.row("wrong mask", count, one.task, one.accuracy)
            if one.best_mask is not None:
                yield cell.row("best mask", count, one.task, one.best_mask.accuracy)

    return bench.kept(_controls_name(cell, count), measure)


def _combined_load(bench: Bench, cell: Cell) -> Load:
    setting = bench.setting(cell)
    counts, new = setting.counts_of(cell.kind, cell.density), len(setting.new)
    fits = [count for count in counts for _ in range(new - _stored_tasks(bench, cell, count))]
    measured = cell.kind == "random" or bench.kept_path(_controls_name(cell, counts[-1])).exists()
    return Load(tuple(fits), 0 if measured else counts[-1] * new)


def _stored_tasks(bench: Bench, cell: Cell, count: int) -> int:
    bank = bench.there(bench.first_path(cell, count))
    return 0 if bank is None else len(bank.task_names())


def _controls_name(cell: Cell, count: int) -> str:
    return f"{cell.name}-{count}-controls"


def _basis_gn(bench: Bench, cell: Cell) -> Iterator[Row]:
    """Tasks of masks themselves: coefficients from 1/K, with labels, beside the mask that was trained for each."""
    setting = bench.setting(cell)
    for count in setting.few_counts():
        bank = bench.first(cell, count)

        def measure(bank: Bank = bank, count: int = count) -> Iterator[Row]:
            for one in evaluate_basis_gn(
                bank.path,
                tasks=_fitted(bank, setting.fitted),
                fit=replace(setting.alpha, l1=0.0, seed=bench.seed),
                samples=bench.scale.samples,
                device=bench.alone,
                data_dir=bench.data_dir,
                progress=bench.progress,
            ):
                yield cell.row("basis-GN", count, one.task, one.plain.accuracy)
                yield cell.row("basis-GN, l1", count, one.task, one.with_l1.accuracy)
                yield cell.row("dedicated", count, one.task, one.dedicated)

        yield from bench.kept(_basis_gn_name(cell, count), measure)


def _basis_gn_load(bench: Bench, cell: Cell) -> Load:
    setting = bench.setting(cell)
    left = [count for count in setting.few_counts() if not bench.kept_path(_basis_gn_name(cell, count)).exists()]
    return Load(tuple(count for count in left for _ in range(2 * min(setting.fitted, count))))


def _basis_gn_name(cell: Cell, count: int) -> str:
    return f"{cell.name}-{count}-basis-gn"


def _gn(bench: Bench, cell: Cell) -> Iterator[Row]:
    """Which task images are of, among those of all masks, by each method."""
    bank = bench.pool(cell)
    count = len(bank.manifest.masks)
    for method in ("one-shot", "exhaustive", "signature"):

        def measure(method: Any = method) -> Iterator[Row]:
            for one in evaluate_gn(
                bank.path,
                _fitted(bank, bench.setting(cell).fitted),
                method=method,
                samples=bench.scale.samples,
                groups=_GROUPS,
                device=bench.alone,
                data_dir=bench.data_dir,
                progress=bench.progress,
            ):
                yield cell.row(f"GN, {method}", count, one.task, one.task_accuracy)

        yield from bench.kept(f"{cell.name}-gn-{method}", measure)


def _gn_load(_bench: Bench, _cell: Cell) -> Load:
    """Some thousand images: not worth reckoning."""
    return Load()


def _fitted(bank: Bank, count: int) -> Sequence[str]:
    return [plan.task for plan in bank.manifest.masks[:count] if plan.task is not None]


COMBINED = Measurement(
    _combined, _combined_load, lambda setting, cell: setting.counts_of(cell.kind, cell.density), own=True
)
BASIS_GN = Measurement(_basis_gn, _basis_gn_load, lambda setting, _: setting.few_counts(), alone=True)
GN = Measurement(_gn, _gn_load, lambda _setting, _cell: (), alone=True)
