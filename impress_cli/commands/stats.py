"""`impress stats`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render
from impress_cli.shared import Output, command

if TYPE_CHECKING:
    from impress_format.operations.stats import Storage

_WAYS = (
    ("index16", "SupSup, 16-bit indices"),
    ("bitmap", "SupSup, bitmap"),
    ("compressed", "SupSup, compressed as here"),
    ("full_model", "one model each, float32"),
    ("float_head", "a last layer each, float32"),
)


@command
def stats(
    path: options.BankPath,
    output: Output,
    total_tasks: Annotated[
        int | None, typer.Option("--total-tasks", metavar="N", help="Count as if the bank had grown to N tasks.")
    ] = None,
) -> None:
    """What the bank costs on disk, beside SupSup and beside a model for each task."""
    from impress_format.bank import open_bank
    from impress_format.operations.stats import measure_storage

    storage = measure_storage(open_bank(path), total_tasks)
    if output.json:
        render.print_json(_document(storage))
    else:
        _show(str(path), storage, grown=total_tasks is not None)


def _document(storage: Storage) -> dict[str, object]:
    other = asdict(storage.alternatives)
    savings = storage.savings and {way: size for way, size in asdict(storage.savings).items() if size is not None}
    return {
        "weights": storage.weights,
        "layers": storage.layers,
        "masks": storage.masks,
        "density": storage.density,
        "stored_tasks": storage.stored_tasks,
        "tasks_served": storage.tasks_served,
        "bytes": {**asdict(storage.bytes), "total": storage.bytes.total},
        "per_task_bytes": storage.per_task_bytes,
        "task_parts": storage.task_parts,
        "amortised_bytes": storage.amortised_bytes,
        "entropy_bytes": storage.entropy_bytes,
        "supsup": {way: other[way] for way in ("index16", "bitmap", "compressed")},
        "full_model_bytes": other["full_model"],
        "float_head_bytes": other["float_head"],
        "savings": savings,
        "break_even_tasks": storage.break_even_tasks,
    }


def _show(path: str, storage: Storage, *, grown: bool) -> None:
    disk = storage.bytes
    origin = "drawn from the seed" if storage.pretrained is None else f"of {storage.pretrained}, which is not counted"
    backbone = f"{storage.weights:,} weights in {storage.layers} layers, {origin}"
    rows = [
        ("backbone", backbone + ("; calibration images" if disk.backbone else ""), render.size(disk.backbone)),
        ("masks", f"{storage.masks} of density {storage.density:.2f}", render.size(disk.masks)),
        *([("recogniser", "tells tasks apart", render.size(disk.recogniser))] if disk.recogniser else []),
        *([("projection", "that heads of tasks stand on", render.size(disk.projection))] if disk.projection else []),
        (
            "tasks",
            f"{render.count(storage.stored_tasks, 'task')} of {render.size(storage.per_task_bytes)}{_parts(storage)}",
            render.size(disk.tasks),
        ),
        ("manifest", "backbone, masks and how they were trained", render.size(disk.manifest)),
        ("total", "", render.size(disk.total)),
    ]
    render.print_table(f"{path}: on disk", ("part", "what", "bytes"), rows, text_columns=2)

    if storage.amortised_bytes is None or storage.savings is None:
        return  # nothing to compare
    other, savings = asdict(storage.alternatives), asdict(storage.savings)
    tasks = storage.tasks_served
    mean = storage.per_task_bytes
    comparison = [
        (
            label,
            render.size(other[way]),
            render.ratio(other[way] / mean) if mean else "—",
            render.size(other[way] * tasks),
            render.ratio(savings[way]),
            _tasks(storage.break_even_tasks[way]),
        )
        for way, label in _WAYS
        if other[way] is not None
    ]
    own = "alpha, this bank" if storage.masks else "this bank"
    comparison.append((own, render.size(mean), "", render.size(storage.amortised_bytes * tasks), "", ""))
    served = f"{'Grown to' if grown else 'Serving'} {render.count(tasks, 'task')}"
    title = f"{served} ({render.count(storage.masks, 'mask')}, the rest as alpha)" if storage.masks else served
    columns = ("each task stored as", "one more", "ratio", f"all {tasks:,}", "ratio", "bank wins from")
    render.print_table(title, columns, comparison)


def _parts(storage: Storage) -> str:
    """What a task is made of, on the average."""
    tasks = storage.stored_tasks
    means = [f"{part} {render.size(size / tasks)}" for part, size in storage.task_parts.items() if size]
    return f": {', '.join(means)}" if means else ""


def _tasks(count: int | None) -> str:
    return "—" if count is None else render.count(count, "task")
