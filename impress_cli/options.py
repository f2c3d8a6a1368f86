"""Options that several commands share, declared once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Device(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class InitChoice(str, Enum):
    signed_constant = "signed-constant"
    kaiming_normal = "kaiming-normal"


_EVERYWHERE = "Everywhere"

BankPath = Annotated[Path, typer.Argument(metavar="BANK", help="Folder of the bank, by habit NAME.impress.")]
References = Annotated[
    list[str],
    typer.Argument(metavar="REF...", help="Tasks: STREAM/KEY, or a slice STREAM/START:STOP:STEP.", show_default=False),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, nothing else.", rich_help_panel=_EVERYWHERE)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.", rich_help_panel=_EVERYWHERE)]
Debug = Annotated[bool, typer.Option("--debug", help="Full traceback on an error.", rich_help_panel=_EVERYWHERE)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where data sets are, or are downloaded to. Default: $IMPRESS_DATA, else the user's cache folder.",
        show_default=False,
        rich_help_panel=_EVERYWHERE,
    ),
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute.", rich_help_panel=_EVERYWHERE)]
Seed = Annotated[int, typer.Option("--seed", help="What all randomness is drawn from.", rich_help_panel=_EVERYWHERE)]
Holdout = Annotated[
    float,
    typer.Option(
        "--holdout",
        metavar="FRACTION",
        help="Keep this share of the training images apart and measure accuracy on it instead of the test images: "
        "for choosing settings.",
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
