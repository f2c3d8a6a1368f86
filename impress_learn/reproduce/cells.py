"""The measurements that figures are drawn from: pools of masks, coefficients over the first of them, controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from impress_format.bank import Bank
from impress_format.disk.files import make_folder, write_atomically
from impress_format.operations.prefix import first_masks
from impress_learn.jobs.add import add_tasks
from impress_learn.jobs.create import create_bank
from impress_learn.jobs.evaluate import evaluate
from impress_learn.jobs.identify import evaluate_basis_gn, evaluate_gn
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks
from impress_learn.progress import Progress
from impress_learn.reproduce.scales import KINDS, Kind, Scale, Stream
from impress_learn.running.device import Device, Workers

COEFFICIENTS = Parts(signature=False, vote=False)
"""Coefficients alone, as the paper has them."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement.

    Attributes:
        what: `combined`, `own mask`, `wrong mask`, `best mask`; `basis-GN`, `dedicated`; `GN` and its method.
        masks: how many were combined, or told apart.
        task: by its reference.
        accuracy: on test images, from 0 to 1; of GN the share of groups whose task was found.
    """

    stream: str
    kind: str
    what: str
    density: float
    masks: int
    task: str
    accuracy: float

    def flat(self) -> dict[str, object]:
        """All of it, as CSV and JSON have it."""
        return asdict(self)


@dataclass(frozen=True)
class Bench:
    """Where a reproduction is made, and with what.

    Attributes:
        folder: that banks and measurements are kept in; what is there is not made again.
        seed: of the network, the masks and all else.
    """

    scale: Scale
    folder: Path
    seed: int
    device: Device
    data_dir: Path | None
    progress: Progress

    @property
    def alone(self) -> Device:
        """The device of what is not spread over workers."""
        return self.device.device if isinstance(self.device, Workers) else self.device

    @property
    def quiet(self) -> Progress:
        """Of steps alone: what is there already is asked for many times."""
        return replace(self.progress, remark=lambda _: None)

    def pool(self, stream: Stream, kind: Kind, density: float) -> Bank:
        """All masks of a kind."""
        most = self.scale.most[stream, kind]
        masks = Masks(
            masks_per_task={"heterogeneous": 1, "homogeneous": most, "random": 0}[kind],
            random_masks=most if kind == "random" else 0,
            density=density,
        )
        return self._bank(f"{stream}-{kind}-{density:g}", self.scale.basis(stream, kind), masks)

    def own(self, stream: Stream, density: float) -> Bank:
        """Masks of the new tasks themselves: what SupSup stores."""
        tasks = [self.scale.reference(stream, key) for key in self.scale.new[stream]]
        return self._bank(f"{stream}-own-{density:g}", tasks, Masks(masks_per_task=1, density=density))

    def first(self, pool: Bank, count: int) -> Bank:
        """The first masks of a pool, as a bank of their own."""
        return first_masks(pool, count, pool.path.with_name(f"{pool.path.name}-{count}"))

    def kept(self, name: str, measure: Callable[[], Iterable[Row]]) -> list[Row]:
        """What was measured under this name before, or what is measured now."""
        path = self.folder / "measured" / f"{name}.json"
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode(path.read_bytes(), type=list[Row])
        rows = list(measure())
        make_folder(path.parent)
        write_atomically(path, msgspec.json.encode(rows), replace=True)
        return rows

    def _bank(self, name: str, tasks: Sequence[str], masks: Masks) -> Bank:
        return create_bank(
            self.folder / "banks" / name,
            tasks,
            masks=masks,
            fit=replace(self.scale.masks, seed=self.seed),
            device=self.device,
            data_dir=self.data_dir,
            progress=self.quiet,
        )


def combined(bench: Bench, stream: Stream, density: float) -> Iterator[Row]:
    """New tasks under combinations of masks of each kind, under a mask of their own, and under masks of others."""
    scale, own = bench.scale, bench.own(stream, density)
    for index, plan in enumerate(own.manifest.masks):
        measured = own.read_mask_record(index).accuracy
        assert measured is not None
        yield _row(stream, "own", "own mask", density, 1, plan.task, measured)
    tasks = [scale.reference(stream, key) for key in scale.new[stream]]
    for kind in KINDS:
        pool = bench.pool(stream, kind, density)
        for count in scale.counts_of(stream, kind):
            bank = bench.first(pool, count)
            fit = replace(scale.alpha, seed=bench.seed)
            for task in add_tasks(
                bank.path,
                tasks,
                fit=fit,
                parts=COEFFICIENTS,
                device=bench.device,
                data_dir=bench.data_dir,
                progress=bench.quiet,
            ):
                yield _row(stream, kind, "combined", density, count, task.task, task.accuracy)
        if kind != "random":
            yield from _controls(bench, bank, stream, kind, density)


def _controls(bench: Bench, bank: Bank, stream: Stream, kind: Kind, density: float) -> list[Row]:
    """New tasks under masks of other tasks: their mean, and the one that does best on training images."""
    count = len(bank.manifest.masks)

    def measure() -> Iterator[Row]:
        for one in evaluate(
            bank.path, wrong_mask=True, device=bench.alone, data_dir=bench.data_dir, progress=bench.progress
        ):
            yield _row(stream, kind, "wrong mask", density, count, one.task, one.accuracy)
            if one.best_mask is not None:
                yield _row(stream, kind, "best mask", density, count, one.task, one.best_mask.accuracy)

    return bench.kept(f"{bank.path.name}-controls", measure)


def basis_gn(bench: Bench, stream: Stream, density: float) -> Iterator[Row]:
    """Tasks of masks themselves: coefficients from 1/K, with labels, beside the mask that was trained for each."""
    counts, pool = bench.scale.counts_of(stream, "heterogeneous"), bench.pool(stream, "heterogeneous", density)
    for count in sorted({counts[0], counts[len(counts) // 2], counts[-1]}):
        bank = bench.first(pool, count)
        asked = [plan.task for plan in bank.manifest.masks[: bench.scale.fitted] if plan.task is not None]

        def measure(bank: Bank = bank, asked: Sequence[str] = asked, count: int = count) -> Iterator[Row]:
            for one in evaluate_basis_gn(
                bank.path,
                tasks=asked,
                fit=replace(bench.scale.alpha, seed=bench.seed),
                samples=bench.scale.samples,
                device=bench.alone,
                data_dir=bench.data_dir,
                progress=bench.progress,
            ):
                yield _row(stream, "heterogeneous", "basis-GN", density, count, one.task, one.plain.accuracy)
                yield _row(stream, "heterogeneous", "basis-GN, l1", density, count, one.task, one.with_l1.accuracy)
                yield _row(stream, "heterogeneous", "dedicated", density, count, one.task, one.dedicated)

        yield from bench.kept(f"{bank.path.name}-basis-gn", measure)


def gn(bench: Bench, stream: Stream, density: float) -> Iterator[Row]:
    """Which task images are of, among those of all masks, by each method."""
    bank = bench.pool(stream, "heterogeneous", density)
    count = len(bank.manifest.masks)
    asked = [plan.task for plan in bank.manifest.masks[: bench.scale.fitted] if plan.task is not None]
    for method in ("one-shot", "exhaustive", "signature"):

        def measure(method: Any = method) -> Iterator[Row]:
            for one in evaluate_gn(
                bank.path,
                asked,
                method=method,
                samples=bench.scale.samples,
                groups=10,
                device=bench.alone,
                data_dir=bench.data_dir,
                progress=bench.progress,
            ):
                yield _row(stream, "heterogeneous", f"GN, {method}", density, count, one.task, one.task_accuracy)

        yield from bench.kept(f"{bank.path.name}-gn-{method}", measure)


def _row(stream: str, kind: str, what: str, density: float, masks: int, task: str | None, accuracy: float) -> Row:
    return Row(stream=stream, kind=kind, what=what, density=density, masks=masks, task=task or "", accuracy=accuracy)
