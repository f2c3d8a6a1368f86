"""What `impress eval --gn` and `--basis-gn` print."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from impress_cli import render
from impress_cli.shared import Compute, Data, Output

if TYPE_CHECKING:
    from impress_learn.identify.measure import Inferred
    from impress_learn.identify.methods import MethodName
    from impress_learn.training.config import TaskTraining

_MOST_CONFUSED = 20
"""Tasks of a confusion table that is printed; JSON has it whole."""


class MethodChoice(str, Enum):
    auto = "auto"
    signature = "signature"
    one_shot = "one-shot"
    binary = "binary"
    gradient = "gradient"
    exhaustive = "exhaustive"


def infer_and_print(
    path: Path,
    tasks: Sequence[str],
    compute: Compute,
    data: Data,
    output: Output,
    *,
    method: MethodName,
    samples: int,
    groups: int,
    holdout: float,
) -> None:
    """Run `evaluate_gn` and print accuracy, how often the task was right, and which tasks were taken for which."""
    from impress_learn.jobs.identify import evaluate_gn

    with render.show_progress("tasks", quiet=output.quiet) as progress:
        results = evaluate_gn(
            path,
            tasks,
            method=method,
            samples=samples,
            groups=groups,
            holdout=holdout,
            device=compute.choose_device,
            data_dir=data.data_dir,
            progress=progress,
        )
    mean = sum(result.accuracy for result in results) / len(results)
    both = sum(result.both for result in results) / len(results)
    known = sum(result.known for result in results) / len(results)
    right = sum(result.task_accuracy for result in results) / len(results)
    unknown = sum(result.unknown for result in results) / len(results)
    sure = [result.probability for result in results if result.probability is not None]
    expected = sum(sure) / len(sure) if sure else None
    if output.json:
        rows = [
            {
                "task": result.task,
                "name": result.name,
                "accuracy": result.accuracy,
                "known_accuracy": result.known,
                "class_incremental_accuracy": result.both,
                "task_accuracy": result.task_accuracy,
                "task_probability": result.probability,
                "none_of_these": result.unknown,
                "samples": result.samples,
                "inferred": result.counts,
            }
            for result in results
        ]
        render.print_json(
            {
                "setting": "gn",
                "method": results[0].method,
                "tasks": rows,
                "mean_accuracy": mean,
                "known_accuracy": known,
                "class_incremental_accuracy": both,
                "task_accuracy": right,
                "task_probability": expected,
                "none_of_these": unknown,
                "images": results[0].images,
                "samples": sum(result.samples for result in results),
                "group": samples,
            }
        )
        return
    render.print_table(
        f"{path}: accuracy, task inferred (GN, {results[0].method}) from {render.count(samples, 'image')} at a time",
        ("task", "images", "accuracy", "task known", "task right"),
        [
            (
                result.name,
                f"{result.samples:,}",
                render.percent(result.accuracy),
                render.percent(result.known),
                render.percent(result.task_accuracy),
            )
            for result in results
        ],
        footer=f"mean accuracy {render.percent(mean)}, {render.percent(known)} with the task known; "
        f"the right task for {render.percent(right)} of the groups"
        + ("" if expected is None else f" ({render.percent(expected)} expected)")
        + f", task and class right for {render.percent(both)} "
        "of the images"
        + (f"; {render.percent(unknown)} seemed to be of none of these" if unknown else "")
        + (", on held-out training images" if holdout else ""),
    )
    confused = [result for result in results if result.task_accuracy < 1]
    left_out = len(confused) - _MOST_CONFUSED
    if confused:
        render.print_table(
            "taken for another task",
            ("task", "taken for (groups)"),
            [(result.name, _mistakes(result)) for result in confused[:_MOST_CONFUSED]],
            text_columns=2,
            footer=f"{left_out} more: --json gives all" if left_out > 0 else "",
        )


def fit_and_print(path: Path, compute: Compute, data: Data, output: Output, *, fit: TaskTraining, samples: int) -> None:
    """Run `evaluate_basis_gn` and print it beside each mask alone."""
    from impress_learn.jobs.identify import PAPER_L1, evaluate_basis_gn

    with render.show_progress("steps", quiet=output.quiet) as progress:
        results = evaluate_basis_gn(
            path, fit=fit, samples=samples, device=compute.choose_device, data_dir=data.data_dir, progress=progress
        )
    count = len(results)
    mean = sum(result.plain.accuracy for result in results) / count
    mean_l1 = sum(result.with_l1.accuracy for result in results) / count
    dedicated = sum(result.dedicated for result in results) / count
    inferred = sum(result.inferred.accuracy for result in results) / count
    method = results[0].inferred.method
    if output.json:
        rows = [
            {
                "task": result.task,
                "name": result.name,
                "accuracy": result.plain.accuracy,
                "right_mask": result.plain.right,
                "accuracy_l1": result.with_l1.accuracy,
                "right_mask_l1": result.with_l1.right,
                "dedicated_accuracy": result.dedicated,
                "inferred_accuracy": result.inferred.accuracy,
                "task_accuracy": result.inferred.task_accuracy,
                "samples": result.samples,
            }
            for result in results
        ]
        render.print_json(
            {
                "setting": "basis-gn",
                "method": "supervised",
                "tasks": rows,
                "mean_accuracy": mean,
                "mean_accuracy_l1": mean_l1,
                "dedicated_accuracy": dedicated,
                "inferred_accuracy": inferred,
                "inference": method,
                "l1": PAPER_L1,
                "images": results[0].images,
                "samples": sum(result.samples for result in results),
            }
        )
        return
    right, right_l1 = (sum(fitted) for fitted in zip(*((r.plain.right, r.with_l1.right) for r in results), strict=True))
    render.print_table(
        f"{path}: accuracy, coefficients fitted with labels to the masks' own tasks (basis-GN, supervised)",
        ("task", "images", "its mask", f"no labels ({method})", "fitted", f"with L1 {PAPER_L1:g}"),
        [
            (
                result.name,
                f"{result.samples:,}",
                render.percent(result.dedicated),
                render.percent(result.inferred.accuracy),
                render.percent(result.plain.accuracy),
                render.percent(result.with_l1.accuracy),
            )
            for result in results
        ],
        footer=f"mean accuracy {render.percent(mean)}, with L1 {render.percent(mean_l1)}, "
        f"of the masks {render.percent(dedicated)}, "
        f"with the task inferred from {render.count(samples, 'image')} and no label {render.percent(inferred)}; "
        f"its own mask has the largest coefficient for {right} of {count} tasks, with L1 for {right_l1}"
        + (", on held-out training images" if fit.holdout else ""),
    )


def _mistakes(result: Inferred) -> str:
    """The other tasks that were inferred, the most frequent first."""
    others = sorted(((count, task) for task, count in result.counts.items() if task != result.task), reverse=True)
    shown = ", ".join(f"{task} ({count})" for count, task in others[:5])
    return shown + (f", and {len(others) - 5} more" if len(others) > 5 else "")
