"""`impress task discover`: a stream whose tasks nobody names."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

from impress_cli import options, render
from impress_cli.shared import Compute, Data, Output, Tasks, command
from impress_learn.identify.discovery import Discovery
from impress_learn.training.config import TaskTraining


@command
def discover(
    path: options.BankPath,
    *,
    discovery: Discovery,
    tasks: Tasks,
    epochs: Annotated[int | None, options.TRAINING_OPTIONS["epochs"]] = None,
    lr: Annotated[float, options.TRAINING_OPTIONS["lr"]] = TaskTraining.lr,
    compute: Compute,
    data: Data,
    output: Output,
) -> None:
    """Learn from a stream of labelled images without being told which task they are of (NNs).

    The images of each REF come in turn, in chunks. A chunk that is of no task known so far opens a new one, whose
    coefficients are learned from all chunks taken for it. Where the images came from is compared afterwards.

    Example: impress task discover digits.impress rotated-digits/20 rotated-digits/100 rotated-digits/20
    """
    from impress_learn.jobs.discover import discover_tasks, share_right

    with render.show_progress("chunks", quiet=output.quiet) as progress:
        found = discover_tasks(
            path,
            tasks.grouped(),
            discovery=discovery,
            fit=replace(TaskTraining(), epochs=epochs, lr=lr, seed=compute.seed),
            device=compute.choose_device,
            data_dir=data.data_dir,
            progress=progress,
        )
    right = share_right(found)
    new = sum(one.new for one in found)
    if output.json:
        rows = [asdict(one) for one in found]
        render.print_json({"rule": discovery.rule, "chunk": discovery.chunk, "tasks": rows, "new": new, "right": right})
        return
    render.print_table(
        f"{path}: {render.count(new, 'new task')} in the stream",
        ("task", "", "chunks of", "accuracy"),
        [
            (
                one.name,
                "new" if one.new else "known",
                ", ".join(f"{task} ({count})" for task, count in one.taken.items()),
                render.percent(one.accuracy),
            )
            for one in found
        ],
        text_columns=3,
        footer=f"{render.percent(right)} of the chunks were taken for the task that is theirs",
    )
