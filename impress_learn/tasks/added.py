"""What adding a task gave: of one that was learned now, and of one that is stored already."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from impress_format.bank import Bank
from impress_learn.running.accuracy import MeasuredOn

_SHARES = ("accuracy", "train_accuracy")


@dataclass(frozen=True, kw_only=True)
class AddedTask:
    """What adding a task gave."""

    task: str
    name: str
    facts: Mapping[str, int]
    """What its parts say of themselves: coefficients, values of a residual, dimensions of a head; 0 for none."""
    bytes: int
    accuracy: float
    train_accuracy: float
    """NaN, both of them, where the images have no labels."""
    seconds: float
    images: MeasuredOn
    """What `accuracy` was measured on."""
    begun_from: str | None = None
    """What was chosen for it to begin from, where images are few; None where there was no choice."""

    def flat(self) -> dict[str, object]:
        """All of it under one name each, as JSON has it: None for NaN."""
        own = {name: value for name, value in vars(self).items() if name != "facts"}
        return {**own, **self.facts} | {name: None for name in _SHARES if math.isnan(own[name])}


def stored_task(bank: Bank, name: str) -> AddedTask:
    """What adding a task that is stored gave, as its file has it; 0 seconds.

    Raises:
        TaskNotFound, FormatError: as Bank.read_task.
    """
    bank.read_task(name)  # checks all of it
    summary = bank.summarise_task(name)
    return AddedTask(
        task=summary.task,
        name=name,
        facts=summary.facts,
        bytes=summary.bytes,
        accuracy=or_nan(summary.accuracy),
        train_accuracy=or_nan(summary.train_accuracy),
        seconds=0.0,
        images=summary.images,
    )


def or_nan(share: float | None) -> float:
    """A share of right answers; NaN for none."""
    return math.nan if share is None else share
