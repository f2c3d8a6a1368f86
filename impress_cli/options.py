"""Arguments and options that several commands share; those of every command are in shared.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def path_of(text: str) -> Path:
    """A path as it was given. An empty one, which pathlib takes for the current folder, is an unset variable.

    Raises:
        BadParameter: it is empty.
    """
    if not text:
        raise typer.BadParameter("it is empty: is a variable not set?")
    return Path(text)


def user_path(text: str) -> Path:
    """A path whose `~` is the user's home also where no shell saw it, as in --data-dir=~/data."""
    return path_of(text).expanduser()


BankPath = Annotated[
    Path, typer.Argument(metavar="BANK", parser=path_of, help="Folder of the bank, by habit NAME.impress.")
]
Task = Annotated[str, typer.Argument(metavar="TASK", help="Name or reference of a stored task.")]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups",
        metavar="PATTERN",
        help="Of folder:PATH, which images belong together (a patient's, a site's, a video's), so that none are both "
        "learned from and tested on: {} for what names the group, * for anything, compared with the name below the "
        "class. '{}/*' the folder there, '{}_*' a name up to its first underscore. Kept in the reference.",
        show_default=False,
    ),
]

FIRST = ("bytes", "residual", "shots", "backbone", "weights", "image_size")
"""Fields whose options a command's help has above all others: most commands that say anything say one of these."""

TRAINING_OPTIONS = {
    "epochs": typer.Option(
        "--epochs", help="Passes over the data. Default: 3 (tasks with a large residual: 6), more where images are few."
    ),
    "batch_size": typer.Option("--batch-size", help="Images a training step."),
    "lr": typer.Option("--lr", help="Learning rate at the start; it falls to 0 as a cosine."),
    "optimizer": typer.Option(
        "--optimizer", help="What steps are made by. Default: adam; for masks of the built-in LeNet sgd."
    ),
    "weight_decay": typer.Option("--weight-decay", help="Of what is trained: scores, coefficients, values."),
    "warmup": typer.Option("--warmup", metavar="EPOCHS", help="Passes in which the learning rate rises first."),
    "l1": typer.Option("--l1", help="Weight of the term that holds each layer's coefficients to norm 1."),
    "shots": typer.Option("--shots", help="Learn from this many images of each class only, chosen by the seed."),
    "unlabelled": typer.Option(
        "--unlabelled",
        help="Look at no label: masks vote by what the images look like. Of folder:PATH all images below.",
    ),
    "threads": typer.Option(
        "--threads",
        metavar="N",
        help="CPU threads of one training. More are faster for large networks; the last bits of a result depend on N.",
    ),
    "holdout": typer.Option(
        "--holdout",
        metavar="FRACTION",
        help="Keep this share of the training images apart and measure accuracy on it instead of the test images: "
        "for choosing settings. The masks beneath must have kept it apart too.",
    ),
}
"""What the fields of a training config are on the command line."""
