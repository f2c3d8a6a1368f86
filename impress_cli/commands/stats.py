"""`impress stats`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render
from impress_cli.shared import Output, command
from impress_format.errors import UsageError

if TYPE_CHECKING:
    from impress_format.operations.stats import Storage

_WAYS = (
    ("index16", "SupSup, 16-bit indices"),
    ("bitmap", "SupSup, bitmap"),
    ("compressed", "SupSup, compressed as here"),
    ("full_model", "one model each, float32"),
    ("float_head", "a last layer each, float32"),
)

_TABLE2 = (
    *("data set", "model", "weights", "M", "layers", "alpha", "T"),
    *("paper: mask", "phi", "ratio", "here: phi", "ratio", "to a bitmap"),
    *("T run", "ratio then"),
)
_TABLE2_READS = (
    "KiB; phi = M masks / T + the coefficients of a task. Paper: by its formula, 16 bits for each of 12.5 % of the "
    "weights, four bytes a coefficient. Here: masks at the entropy of independent bits, one byte a coefficient, tasks "
    "in packs; ratio to a mask stored likewise."
)
_TABLE2_SETTINGS = (
    "M and T are the paper's for SplitCIFAR-100 and SplitImageNet, else this project's; T run: tasks that there are. "
    "Of the printed rows is known, second-hand:"
)


@command
def stats(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="BANK", parser=options.path_of, help="Folder of the bank.", show_default=False),
    ] = None,
    *,
    output: Output,
    total_tasks: Annotated[
        int | None,
        typer.Option(
            "--total-tasks",
            metavar="N",
            help="Count as if the bank had grown to N tasks; with --table2 as if N tasks shared each basis.",
        ),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option(
            "--table2", help="The paper's Table 2 by its own formula, beside what this project stores; without a bank."
        ),
    ] = False,
) -> None:
    """What the bank costs on disk, beside SupSup and beside a model for each task.

    Example: impress stats digits.impress --total-tasks 1000
    """
    if paper == (path is not None):
        raise UsageError("give a bank, or --table2 for the paper's" + (": not both" if paper else ""))
    if path is None:
        _table2(total_tasks, as_json=output.json)
        return
    from impress_format.bank import open_bank
    from impress_format.operations.stats import measure_storage

    storage = measure_storage(open_bank(path), total_tasks)
    if output.json:
        render.print_json(_document(storage))
    else:
        _show(str(path), storage, grown=total_tasks is not None)


def _table2(tasks: int | None, *, as_json: bool) -> None:
    from impress_format.operations.table2 import table2

    rows = table2(tasks)
    if as_json:
        flat = ({**asdict(row), "phi_kb": row.paper.phi_kb, "savings": row.paper.savings} for row in rows)
        render.print_json({"rows": list(flat)})
        return
    table = [
        (
            row.dataset,
            row.model,
            f"{row.params:,}",
            f"{row.masks:,}",
            f"{row.layers:,}",
            f"{row.alpha:,}",
            f"{row.paper.tasks:,}",
            f"{row.paper.mask_kb:,.0f}",
            f"{row.paper.phi_kb:,.1f}",
            render.ratio(row.paper.savings),
            f"{row.here.phi_kb:,.1f}",
            render.ratio(row.here.savings),
            render.ratio(row.here.savings_bitmap),
            *(("", "") if row.as_run is None else (f"{row.as_run.tasks:,}", render.ratio(row.as_run.savings))),
        )
        for row in rows
    ]
    render.print_table("Table 2: a basis and its tasks, beside a mask for each task", _TABLE2, table, text_columns=2)
    render.print_line(_TABLE2_READS)
    if tasks is not None:
        return
    render.print_line(_TABLE2_SETTINGS)
    for row in rows:
        if row.remark is not None:
            render.print_line(f"{row.dataset}, {row.model}: {row.remark}")


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
