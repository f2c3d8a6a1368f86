"""`impress infer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from impress_cli import options, render
from impress_format.errors import DataError, UsageError


def infer(
    path: options.BankPath,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.", show_default=False)
    ],
    task: Annotated[
        str | None, typer.Option("--task", help="Name or reference of the images' task. Default: infer it.")
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="The images share one task: it is inferred from all of them at once.")
    ] = False,
    closed: Annotated[
        bool, typer.Option("--closed", help="The images are of the bank's tasks for sure: never answer none of these.")
    ] = False,
    device: options.DeviceOption = options.Device.auto,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Task and class of your own images. Images that cannot be read are named, and the exit status is 1.

    They are cut to the input's shape and normalised as the bank's stream was. Digits as in MNIST are light on dark.
    """
    from impress_format.bank import open_bank

    if task is not None and (together or closed):
        raise UsageError("--task says what --together and --closed are about: leave them out")
    bank = open_bank(path)
    name = None if task is None else bank.find_task(task)
    bank.complete_masks()

    import torch

    from impress_cli.runtime import choose_device
    from impress_learn.answer import answer, answer_known, normalised
    from impress_learn.candidates import find_candidates
    from impress_learn.evaluate import load_bank
    from impress_learn.images import find_images, read_image

    found = find_images(images)
    loaded = load_bank(bank, choose_device(device))
    candidates = find_candidates(loaded, bank.task_names(), masks=True) if name is None else None
    read, pixels, failed = [], [], []
    with render.progress(len(found), "images", quiet=quiet) as (_, step):
        for file in found:
            try:
                pixels.append(read_image(file, bank.backbone.input_shape))
                read.append(file)
            except DataError as error:
                failed.append(str(error))
            step()
    for message in failed:
        render.print_error(message)
    answers = []
    if read:
        inputs = normalised(loaded, torch.stack(pixels).to(loaded.basis.device))
        if candidates is None:
            answers = answer_known(loaded, str(name), inputs)
        else:
            answers = answer(candidates, inputs, together=together, closed=closed)
    rows = []
    for file, given in zip(read, answers, strict=True):
        index = given.task
        rows.append(
            {
                "path": str(file),
                "task": name if candidates is None else None if index is None else candidates.names[index],
                "reference": None if candidates is None or index is None else candidates.references[index],
                "task_probability": given.task_probability,
                "label": given.label,
                "probability": given.probability,
            }
        )
    if json:
        render.print_json({"images": rows, "unreadable": failed})
    elif rows:
        render.print_table(
            f"{path}: {len(rows)} images",
            ("image", "task", "share", "class", "probability"),
            [
                (
                    str(row["path"]),
                    str(row["task"] or "none of these"),
                    "—" if given.task_probability is None else render.percent(given.task_probability),
                    "—" if given.label is None else str(given.label),
                    "—" if given.probability is None else render.percent(given.probability),
                )
                for row, given in zip(rows, answers, strict=True)
            ],
            text_columns=2,
        )
    if failed:
        raise typer.Exit(1)
