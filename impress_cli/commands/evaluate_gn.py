"""`impress eval --gn` and `--basis-gn`: accuracy where the task is not told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from impress_cli import options, render
from impress_format.bank import Bank
from impress_format.errors import UsageError

if TYPE_CHECKING:
    from impress_learn.evaluate_gn import Foreign, Inferred

_MOST_SHOWN = 40
_MOST_CONFUSED = 3


class Method(str, Enum):
    auto = "auto"
    signature = "signature"
    one_shot = "one-shot"
    binary = "binary"
    gradient = "gradient"
    exhaustive = "exhaustive"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What both settings take."""

    samples: int
    groups: int
    holdout: float
    seed: int
    json: bool
    quiet: bool


def check_options(gn: bool, basis_gn: bool, of_gn: Mapping[str, object], of_both: Mapping[str, int | None]) -> None:
    """Refuse options that the chosen setting does not take.

    Raises:
        UsageError: naming the first of them.
    """
    for option, value in of_gn.items():
        if value and not gn:
            raise UsageError(f"{option} is for --gn")
    for option, number in of_both.items():
        if number is not None and not (gn or basis_gn):
            raise UsageError(f"{option} is for --gn and --basis-gn")
        if number is not None and number < 1:
            raise UsageError(f"{option} {number}: expected at least 1")


def print_gn(
    bank: Bank,
    tasks: Sequence[str],
    method: Method,
    foreign: Sequence[str],
    asked: Asked,
    *,
    device: options.Device,
    data_dir: Path | None,
) -> None:
    """Infer the task of groups of images of `tasks` (all if none is named) among all tasks of the bank."""
    from impress_cli.runtime import choose_device, data_folder
    from impress_learn.candidates import find_candidates
    from impress_learn.evaluate import load_bank
    from impress_learn.evaluate_gn import evaluate_foreign, evaluate_gn
    from impress_learn.inference import METHODS
    from impress_learn.plan import require_fit
    from impress_learn.streams.reference import parse_references

    strangers = parse_references(foreign) if foreign else []
    if strangers:
        require_fit(strangers, bank.backbone)
    candidates = find_candidates(load_bank(bank, choose_device(device)), bank.task_names(), masks=True)
    chosen = [candidates.find(task) for task in tasks] or range(len(candidates))
    if known := [task for task in map(str, strangers) if task in candidates.references]:
        raise UsageError(f"--foreign {known[0]}: the bank has this task")
    if method is Method.signature and candidates.places is None:
        raise UsageError(f"--method signature: {bank.path} has tasks without a signature (a bank of format version 1?)")
    with render.progress(len(chosen) + len(strangers), "tasks", quiet=asked.quiet) as (_, step):
        found = list(
            evaluate_gn(
                candidates,
                METHODS[method.value],
                chosen,
                samples=asked.samples,
                groups=asked.groups,
                holdout=asked.holdout,
                data_dir=data_folder(data_dir),
                on_task=step,
            )
        )
        refused = list(
            evaluate_foreign(
                candidates,
                METHODS[method.value],
                strangers,
                samples=asked.samples,
                groups=asked.groups,
                holdout=asked.holdout,
                data_dir=data_folder(data_dir),
                on_task=step,
            )
        )
    if asked.json:
        _print_gn_json(found, refused, candidates.names, method, asked)
    else:
        _print_gn_tables(bank, found, refused, candidates.names, method, asked)


def print_basis_gn(
    bank: Bank, tasks: Sequence[str], asked: Asked, *, device: options.Device, data_dir: Path | None
) -> None:
    """Alpha fitted from uniform, with labels, on the masks' own tasks."""
    from impress_cli.runtime import choose_device, data_folder
    from impress_learn.basis_gn import L1, evaluate_basis_gn, fitting_steps
    from impress_learn.evaluate import load_bank

    loaded = load_bank(bank, choose_device(device))
    with render.progress(fitting_steps(bank, tasks), "steps", quiet=asked.quiet) as (describe, step):
        found = list(
            evaluate_basis_gn(
                loaded,
                tasks,
                samples=asked.samples,
                groups=asked.groups,
                holdout=asked.holdout,
                seed=asked.seed,
                data_dir=data_folder(data_dir),
                on_task=describe,
                on_step=step,
            )
        )
    mean = sum(row.accuracy for row in found) / len(found)
    if asked.json:
        rows = [
            {
                "task": row.task,
                "accuracy": row.accuracy,
                "accuracy_l1": row.accuracy_l1,
                "dedicated_mask": row.dedicated,
                "label_free": row.label_free,
                "largest_alpha_is_own_mask": row.own_largest,
                "samples": row.samples,
            }
            for row in found
        ]
        render.print_json(
            {
                "setting": "basis-gn",
                "method": "supervised-alpha",
                "supervised": True,
                "l1": L1,
                "tasks": rows,
                "mean_accuracy": mean,
                "samples": sum(row.samples for row in found),
            }
        )
        return
    render.print_table(
        f"{bank.path}: the masks' own tasks by alpha fitted WITH labels (basis-GN)",
        ("task", "basis-GN", f"with L1 {L1:g}", "own mask (GG)", f"inferred from {asked.samples}"),
        [
            (
                row.task,
                render.percent(row.accuracy),
                render.percent(row.accuracy_l1),
                render.percent(row.dedicated),
                render.percent(row.label_free),
            )
            for row in found
        ],
        footer=f"mean accuracy {render.percent(mean)}; supervised: labels of the task were used, unlike in the last "
        "column (--gn)",
    )


def _print_gn_json(
    found: Sequence[Inferred], refused: Sequence[Foreign], names: Sequence[str], method: Method, asked: Asked
) -> None:
    rows = [
        {
            "task": row.task,
            "name": row.name,
            "accuracy": row.accuracy,
            "accuracy_gg": row.known,
            "task_accuracy": row.task_accuracy,
            "inferred": {names[index]: count for index, count in enumerate(row.counts) if count},
            "refused": _number(row.refused),
            "samples": row.samples,
        }
        for row in found
    ]
    render.print_json(
        {
            "setting": "gn",
            "method": method.value,
            "samples_per_group": asked.samples,
            "candidates": len(names),
            "tasks": rows,
            "mean_accuracy": _mean([row.accuracy for row in found]),
            "mean_accuracy_gg": _mean([row.known for row in found]),
            "task_accuracy": _mean([row.task_accuracy for row in found]),
            "foreign": [{"task": row.task, "refused": _number(row.refused), "samples": row.samples} for row in refused],
            "samples": sum(row.samples for row in found),
        }
    )


def _print_gn_tables(
    bank: Bank,
    found: Sequence[Inferred],
    refused: Sequence[Foreign],
    names: Sequence[str],
    method: Method,
    asked: Asked,
) -> None:
    images = "one image" if asked.samples == 1 else f"{asked.samples} images"
    shown = found[:_MOST_SHOWN]
    render.print_table(
        f"{bank.path}: task inferred from {images} (GN, {method.value})",
        ("task", "groups", "task right", "accuracy", "if known", "taken for"),
        [
            (
                row.name,
                f"{sum(row.counts):,}",
                render.percent(row.task_accuracy),
                render.percent(row.accuracy),
                render.percent(row.known),
                _confused(row, names),
            )
            for row in shown
        ],
        footer=(f"and {len(found) - len(shown)} more\n" if len(found) > len(shown) else "")
        + f"among {len(names)} tasks: right task {render.percent(_mean([row.task_accuracy for row in found]))}, "
        f"mean accuracy {render.percent(_mean([row.accuracy for row in found]))} "
        f"({render.percent(_mean([row.known for row in found]))} with the task known)"
        + (" on held-out training images" if asked.holdout else ""),
    )
    if not math.isnan(found[0].refused):
        own = _mean([row.refused for row in found])
        render.print_line(f'"none of these" for {render.percent(own)} of these groups (wrongly)')
    if refused:
        render.print_table(
            "Tasks the bank does not have",
            ("task", "images", "refused"),
            [(row.task, f"{row.samples:,}", render.percent(_number(row.refused))) for row in refused],
        )


def _confused(row: Inferred, names: Sequence[str]) -> str:
    """The wrong tasks taken most often."""
    wrong = [(count, index) for index, count in enumerate(row.counts) if count and index != row.right]
    worst = sorted(wrong, key=lambda pair: (-pair[0], pair[1]))[:_MOST_CONFUSED]
    return ", ".join(f"{names[index]} {count}" for count, index in worst) or "—"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
