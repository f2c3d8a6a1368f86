"""Split CIFAR-100 as in the paper: banks of M masks, new tasks beside a mask of their own (docs/results).

    python tests/benchmarks/split_cifar100.py masks FOLDER --data-dir DIR [--upto 10] [OPTIONS]
    python tests/benchmarks/split_cifar100.py tasks FOLDER --data-dir DIR [OPTIONS]

`masks` trains a mask for each of the 20 tasks and, of task 0, homogeneous ones; what is there is not trained again.
`tasks` learns, from the first 5, 10 and 15 of them, tasks that these masks have not seen. Both append to
FOLDER/results.csv, line by line. It is `impress bank create|extend` and `impress task add`, several at a time: networks
of this size wait for the launch of kernels, not for the GPU.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace

from impress_format import open_bank
from impress_format.bank_files.folder import MANIFEST
from impress_format.manifest import seal_manifest
from impress_format.operations.create import extend_plan
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.jobs.making import train_missing_masks
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.plan.bank import plan_masks
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference, parse_references
from impress_learn.training.config import MaskTraining, TaskTraining

ALL, SIZES = 20, (5, 10, 15)
COLUMNS = ("bank", "masks", "task", "parts", "bytes", "accuracy", "seconds")
ALPHA: dict[str, dict[str, Any]] = {"alpha": {}, "G = 16": {"granularity": 16}}
RESIDUALS: dict[str, dict[str, Any]] = {f"{bits // 8:,} B residual": {"residual": bits} for bits in
                                        (4_096, 16_384, 65_536, 262_144)}  # fmt: skip
HYBRID: dict[str, dict[str, Any]] = {"hybrid": {"hybrid": True}}
ALONE: dict[str, dict[str, Any]] = {
    f"no mask, {bits // 8:,} B residual": {"residual": bits, "alpha": False} for bits in (16_384, 262_144)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("masks", "tasks"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--backbone", default="resnet-18-nf20")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--upto", type=int, default=ALL, help="masks of the tasks before this one")
    parser.add_argument("--mask-epochs", type=int, default=100)
    parser.add_argument("--task-epochs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3600.0, help="after so long no further task is begun")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")  # a forked process cannot use the GPU
    with ProcessPoolExecutor(chosen.workers, mp_context=spawn, initializer=_one_thread) as pool:
        (_masks if chosen.what == "masks" else _tasks)(pool, chosen)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _masks(pool: ProcessPoolExecutor, chosen: argparse.Namespace) -> None:
    fit = MaskTraining(optimizer="adam", weight_decay=1e-4, batch_size=128, epochs=chosen.mask_epochs)
    waiting: list[Future[dict[str, Any]]] = []
    for kind in ("heterogeneous", "homogeneous"):
        path, sizes = chosen.folder / f"{kind}.impress", (*SIZES, ALL)
        if not path.exists():
            first = [f"split-cifar100/{key}" for key in (range(SIZES[0]) if kind == "heterogeneous" else (0,))]
            create_bank(
                path,
                first,
                network=Network(backbone=chosen.backbone),
                masks=Masks(masks_per_task=0),
                data_dir=chosen.data_dir,
            )
        if kind == "heterogeneous":
            asked, many = f"split-cifar100/0:{min(sizes[-1], chosen.upto)}", 1
        else:
            asked, many = "split-cifar100/0", SIZES[-1]
        plans = plan_masks(
            parse_references([asked]),
            fit,
            Masks(masks_per_task=many, random_masks=0, density=0.3, allocation="erdos-renyi"),
        )
        bank = extend_plan(open_bank(path), plans)
        for task in {bank.manifest.masks[index].task for index in bank.missing_masks()} - {None}:
            load_task(parse_reference(str(task)), data_dir=chosen.data_dir)  # decoded once, before anybody needs it
        waiting += [pool.submit(_train, path, index, chosen.data_dir, chosen.device) for index in bank.missing_masks()]
    _write(chosen.folder, (done.result() for done in as_completed(waiting)))


def _train(path: Path, index: int, data_dir: Path, device: str) -> dict[str, Any]:
    start, bank = time.perf_counter(), open_bank(path)
    train_missing_masks(bank, among=[index], data_dir=data_dir, device=torch.device(device))
    record = bank.read_mask_record(index)
    return {
        "bank": path.stem, "masks": index + 1, "task": bank.manifest.masks[index].task, "parts": "a mask of its own",
        "bytes": bank.mask_path(index).stat().st_size, "accuracy": record.accuracy,
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


def _tasks(pool: ProcessPoolExecutor, chosen: argparse.Namespace) -> None:
    activations = time.perf_counter()
    fit = TaskTraining(batch_size=64, epochs=chosen.task_epochs)
    waiting = []
    for kind, masks, keys, parts in _plan():
        path = chosen.folder / f"{kind}-{masks:02d}.impress"
        if not path.exists():
            _cut(chosen.folder / f"{kind}.impress", path, masks)
        for key in keys:
            for name, settings in parts.items():
                waiting.append(pool.submit(_add, path, key, name, settings, fit, chosen, activations))
    _write(chosen.folder, (row for done in as_completed(waiting) if (row := done.result())))


def _plan() -> Iterator[tuple[str, int, Sequence[int], dict[str, dict[str, Any]]]]:
    """Banks, how many masks, which tasks, and how: what matters most comes first."""
    most, last = range(10, ALL), range(15, ALL)
    middle = {"2,048 B residual": RESIDUALS["2,048 B residual"]}
    yield "heterogeneous", 10, most, {**ALPHA, **middle}
    yield "heterogeneous", 15, last, {**ALPHA, **middle}
    yield "heterogeneous", 5, most, ALPHA
    yield "heterogeneous", 10, last, {**HYBRID, **{name: one for name, one in RESIDUALS.items() if name not in middle}}
    yield "homogeneous", 10, last, ALPHA
    yield "heterogeneous", 0, last, ALONE
    yield "homogeneous", 15, last, ALPHA
    yield "homogeneous", 5, last, ALPHA


def _cut(whole: Path, path: Path, masks: int) -> None:
    """The bank as it was when it had so many masks."""
    bank = open_bank(whole)
    shutil.copytree(whole, path, ignore=shutil.ignore_patterns("tasks"))
    for index in range(masks, len(bank.manifest.masks)):
        (path / bank.mask_path(index).relative_to(whole)).unlink(missing_ok=True)
    (path / MANIFEST).write_bytes(seal_manifest(replace(bank.manifest, masks=bank.manifest.masks[:masks])))


def _add(
    path: Path,
    key: int,
    parts: str,
    settings: dict[str, Any],
    fit: TaskTraining,
    chosen: argparse.Namespace,
    activations: float,
) -> dict[str, Any] | None:
    if time.perf_counter() - activations > chosen.seconds:
        return None
    name = f"{key}-{parts}".replace(" ", "").replace(",", "").replace("=", "")
    (added,) = add_tasks(path, [f"split-cifar100/{key}"], name=name, fit=fit, data_dir=chosen.data_dir,
                         device=lambda: torch.device(chosen.device),
                         parts=Parts(signature=False, **settings))  # fmt: skip
    kind, masks = path.stem.rsplit("-", 1)
    return {
        "bank": kind, "masks": int(masks), "task": added.task, "parts": parts, "bytes": added.bytes,
        "accuracy": added.accuracy, "seconds": added.seconds,
    }  # fmt: skip


def _write(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    path = folder / "results.csv"
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        for row in rows:
            writer.writerow(row)
            file.flush()
            print({**row, "seconds": round(row["seconds"], 1)}, flush=True)


if __name__ == "__main__":
    main()
