"""`impress task discover`: a stream whose tasks nobody names."""

from __future__ import annotations

from dataclasses import asdict, replace
from enum import Enum
from typing import Annotated

import typer

from impress_cli import options, render
from impress_cli.shared import Compute, Data, Output, command
from impress_learn.fits import TaskFit


class RuleChoice(str, Enum):
    signature = "signature"
    supsup = "supsup"


@command
def discover(
    path: options.BankPath,
    references: options.References,
    compute: Compute,
    data: Data,
    output: Output,
    rule: Annotated[
        RuleChoice, typer.Option("--rule", help="When images are of no known task: by signature, or SupSup's rule.")
    ] = RuleChoice.signature,
    chunk: Annotated[int, typer.Option("--chunk", help="Images that are known to share one task.")] = 128,
    images: Annotated[
        int | None,
        typer.Option("--images", help="Of each REF at most this many. Default: all.", show_default=False),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Of the names of new tasks: PREFIX-1, …")] = "discovered",
    groups: options.Groups = None,
    epochs: Annotated[int | None, options.FIT_OPTIONS["epochs"]] = None,
    lr: Annotated[float, options.FIT_OPTIONS["lr"]] = TaskFit.lr,
) -> None:
    """Learn from a stream of labelled images without being told which task they are of (NNs).

    The images of each REF come in turn, in chunks. A chunk that is of no task known so far opens a new one, whose
    coefficients are learned from all chunks taken for it. Where the images came from is compared afterwards.

    Example: impress task discover digits.impress rotated-digits/20 rotated-digits/100 rotated-digits/20
    """
    from impress_learn.jobs.discover import discover_tasks, share_right

    with render.watch("chunks", quiet=output.quiet) as watch:
        found = discover_tasks(
            path,
            references,
            rule=rule.value,
            chunk=chunk,
            images=images,
            prefix=prefix,
            groups=groups,
            fit=replace(TaskFit(), epochs=epochs, lr=lr, seed=compute.seed),
            device=compute.choose_device,
            data_dir=data.data_dir,
            watch=watch,
        )
    right = share_right(found)
    new = sum(one.new for one in found)
    if output.json:
        rows = [asdict(one) for one in found]
        render.print_json({"rule": rule.value, "chunk": chunk, "tasks": rows, "new": new, "right": right})
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
