"""`impress task discover`."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render
from impress_format.errors import UsageError

if TYPE_CHECKING:
    from impress_learn.discover import Discovered


class RuleChoice(str, Enum):
    signature = "signature"
    supsup = "supsup"


def discover(
    path: options.BankPath,
    references: options.References,
    images: Annotated[int, typer.Option("--images", help="Training images of each reference, at most.")] = 2048,
    chunk: Annotated[int, typer.Option("--chunk", help="Images that arrive together, of one task.")] = 128,
    rule: Annotated[
        RuleChoice,
        typer.Option("--rule", help="What makes a chunk new: its signature, or SupSup's rule on entropy slopes."),
    ] = RuleChoice.signature,
    prefix: Annotated[str, typer.Option("--prefix", help="New tasks are named PREFIX-1, PREFIX-2, …")] = "found",
    lr: Annotated[float, typer.Option("--lr", help="Learning rate of alpha at the start.")] = 0.03,
    seed: options.Seed = 0,
    device: options.DeviceOption = options.Device.auto,
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Learn from a stream without task labels (NNs): a chunk that fits no known task opens a new one.

    The references are what the stream is made of, one after another; the run is not told which is which, and is
    measured against them at the end. Known at the start are the tasks of the bank's masks.

    Example: impress task discover digits.impress permuted-digits/0:3 rotated-digits/36
    """
    from impress_format.bank import check_task_name, open_bank
    from impress_learn.plan import require_fit
    from impress_learn.streams.reference import parse_references

    if images < chunk or chunk < 2:
        raise UsageError(f"--images {images} --chunk {chunk}: expected a chunk of at least 2, and no less images")
    check_task_name(f"{prefix}-1")
    bank = open_bank(path)
    tasks = parse_references(references)
    require_fit(tasks, bank.backbone)
    bank.complete_masks()

    from impress_cli.runtime import choose_device, data_folder
    from impress_learn.discover import discover as run
    from impress_learn.evaluate import load_bank

    loaded = load_bank(bank, choose_device(device))
    with render.progress(sum(min(images, t.stream.train_images) // chunk for t in tasks), "chunks", quiet=quiet) as (
        _,
        step,
    ):
        found = run(
            loaded,
            tasks,
            images=images,
            chunk=chunk,
            rule=rule.value,
            prefix=prefix,
            lr=lr,
            seed=seed,
            data_dir=data_folder(data_dir),
            on_chunk=step,
        )
    _report(str(path), found, len(tasks), rule, json=json)


def _report(path: str, found: list[Discovered], true: int, rule: RuleChoice, *, json: bool) -> None:
    chunks = sum(task.chunks for task in found)
    pure = sum(max(task.true.values()) for task in found) / chunks
    opened = sum(not task.known for task in found)
    if json:
        rows = [
            {"name": t.name, "known": t.known, "chunks": t.chunks, "true": t.true, "accuracy": t.accuracy}
            for t in found
        ]
        render.print_json(
            {"rule": rule.value, "tasks": rows, "opened": opened, "true_tasks": true, "chunks": chunks, "purity": pure}
        )
        return
    render.print_table(
        f"{path}: {opened} new tasks opened in a stream of {true} ({rule.value})",
        ("task", "", "of", "chunks", "accuracy"),
        [
            (
                t.name,
                "known" if t.known else "new",
                ", ".join(f"{of} {count}" for of, count in sorted(t.true.items(), key=lambda pair: -pair[1])),
                str(t.chunks),
                render.percent(t.accuracy),
            )
            for t in found
        ],
        text_columns=3,
        footer=f"{chunks} chunks; {render.percent(pure)} of them beside chunks of their own reference",
    )
