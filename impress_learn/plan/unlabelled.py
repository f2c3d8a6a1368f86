"""Tasks of images whose labels nobody knows, or looks at: what of them can be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_learn.parts.table import Parts
from impress_learn.streams.reference import Reference
from impress_learn.training.config import TaskTraining, require

WITHOUT_LABELS = (
    "no label is looked at: masks vote by what the images look like. Of digits turned by angles that no mask has such "
    "tasks had 94.5 % from 50 images, coefficients from all labels 92.6, the best mask 90.4 (docs/results, Votes)"
)
"""What is said of every such task."""


def parts_without_labels(bank: Bank, asked: Parts) -> Parts:
    """The parts that such a task has: a vote.

    Raises:
        UsageError: others are asked for.
        BankMismatch: nothing in the bank tells which of its tasks an image is like.
    """
    require(asked.vote is not False, "`unlabelled`: without labels nothing but a vote can be stored, `vote` is False")
    if bank.signature_kind != "pixels":
        raise BankMismatch(
            f"{bank.path} has no task classifier, which says without labels which masks images are like: create a bank "
            "of masks of two or more tasks"
        )
    return replace(asked, vote=True)


def check_labelled(references: Sequence[Reference], fit: TaskTraining) -> None:
    """Refuse to learn from labels that nobody knows.

    Raises:
        UsageError: naming the first reference that has none.
    """
    for reference in references:
        require(
            fit.unlabelled or reference.data_set.labelled,
            f"{reference} has no labels: give `unlabelled`, or its images in a folder for each class",
        )
