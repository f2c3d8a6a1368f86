"""Arguments and options that several commands share; those of every command are in shared.py."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from impress_cli.shared import path_of


class InitChoice(str, Enum):
    signed_constant = "signed-constant"
    kaiming_normal = "kaiming-normal"


BankPath = Annotated[
    Path, typer.Argument(metavar="BANK", parser=path_of, help="Folder of the bank, by habit NAME.impress.")
]
References = Annotated[
    list[str],
    typer.Argument(metavar="REF...", help="Tasks: STREAM/KEY, or a slice STREAM/START:STOP:STEP.", show_default=False),
]
Task = Annotated[str, typer.Argument(metavar="TASK", help="Name or reference of a stored task.")]
Holdout = Annotated[
    float,
    typer.Option(
        "--holdout",
        metavar="FRACTION",
        help="Keep this share of the training images apart and measure accuracy on it instead of the test images: "
        "for choosing settings. The masks beneath must have kept it apart too.",
    ),
]
Density = Annotated[float, typer.Option("--density", help="Share of ones in every layer of a mask, in (0, 1].")]
MasksPerTask = Annotated[
    int, typer.Option("--masks-per-task", help="1: heterogeneous masks. More: that many homogeneous ones each.")
]
RandomMasks = Annotated[int, typer.Option("--random-masks", help="Untrained masks to add after the trained ones.")]
MaskEpochs = Annotated[
    int | None,
    typer.Option("--epochs", help="Passes over the data for each mask. Default: 3, more where images are few."),
]
MaskBatch = Annotated[int, typer.Option("--batch-size", help="Images a training step.")]
MaskLr = Annotated[float, typer.Option("--lr", help="Learning rate at the start; it falls to 0 as a cosine.")]
