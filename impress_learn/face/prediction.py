"""What an image shows: records, and what is said beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from impress_format.bank import Bank
    from impress_learn.streams.classes import TaskClasses

ANSWERED_AT_ONCE = 256
"""Images that are answered together."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one image shows.

    Attributes:
        task: the reference of the task, given or found; None if the image is of none of the bank's tasks.
        nearest: the task of the bank that it is likeliest to be of, whose class this is.
        task_probability: how likely that is the right one, if it is one of the bank's; None where the task was given,
            or found by a method that does not say.
        label: the class: its name, or its number where it has none.
        index: its number: the place of its logit.
        probability: softmax of the class's logit under the task, 0 to 1.

    Examples:
        >>> import impress_learn
        >>> loaded = impress_learn.load_bank("build/demo.impress")
        >>> loaded.predict("seven.png", "rotated-digits-15")
        Prediction(task='rotated-digits/15', ..., label='7', index=7, probability=0...)
    """

    task: str | None
    nearest: str
    task_probability: float | None
    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class FoundTask:
    """The candidate that an image is likeliest to be of, whether it is of none, and how likely that candidate is."""

    index: int
    unknown: bool
    probability: float | None


def one_task_remark(bank: Bank, name: str) -> str:
    """What is to be said where the task is not given, and the bank has one alone."""
    return f"{bank.path} has one task, {name}: every image is answered as one of it, whatever it shows"


def predict_by_task(
    found: Sequence[FoundTask], predict: Callable[[int, Sequence[int]], Iterable[Prediction]]
) -> list[Prediction]:
    """A prediction for each image, those of one task made together.

    Args:
        found: of each image, which of the candidates.
        predict: a candidate, and the images (places in `found`) that are likely of it -> their predictions.
    """
    predictions: dict[int, Prediction] = {}
    for index in sorted({one.index for one in found}):
        rows = [row for row, one in enumerate(found) if one.index == index]
        predictions.update(zip(rows, predict(index, rows), strict=True))
    return [predictions[row] for row in range(len(found))]


def predictions_of(
    task: str, classes: TaskClasses, found: Sequence[FoundTask], likeliest: Iterable[tuple[int, float]]
) -> list[Prediction]:
    """What images show that are likely of one task, by reference.

    Args:
        found: of each image.
        likeliest: of each image the number of its class, and how likely that is.
    """
    return [
        Prediction(
            task=None if one.unknown else task,
            nearest=task,
            task_probability=one.probability,
            label=classes.label(index),
            index=index,
            probability=share,
        )
        for one, (index, share) in zip(found, likeliest, strict=True)
    ]
