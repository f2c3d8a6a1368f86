"""Task and class of images that nobody has labelled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from impress_format.errors import BankMismatch
from impress_format.identity import read_identity
from impress_learn.candidates import Candidates
from impress_learn.evaluate import LoadedBank
from impress_learn.inference import auto
from impress_learn.streams.data import normalise


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one image shows.

    Attributes:
        task: index of the task among the candidates; None for none of these.
        label: the class, None if the task is None.
        probability: softmax of the class's logit, under the task.
        task_probability: share of this task among the candidates, as the scores tell; None if the task was given.
    """

    task: int | None
    label: int | None
    probability: float | None
    task_probability: float | None


def normalised(loaded: LoadedBank, pixels: Tensor) -> Tensor:
    """uint8 (n, C, H, W) -> what the network takes, by the mean and deviation kept in the bank.

    Raises:
        BankMismatch: a bank of format version 1 keeps none.
    """
    bank = loaded.bank
    if bank.manifest.identity:
        record = read_identity(bank)[0]
        return normalise(pixels, record.mean, record.std)
    if bank.manifest.calibration:
        calibration = bank.read_calibration()[0]
        return normalise(pixels, calibration.mean, calibration.std)
    raise BankMismatch(f"{bank.path} does not say how images are normalised (format version 1): create it again")


def answer_known(loaded: LoadedBank, name: str, images: Tensor) -> list[Answer]:
    """Classes of normalised images (n, *input_shape) of a stored task."""
    probability, label = loaded.logits(loaded.task_weights(name), images).softmax(1).max(1)
    return [
        Answer(task=None, label=int(of), probability=float(share), task_probability=None)
        for share, of in zip(probability, label, strict=True)
    ]


def answer(candidates: Candidates, images: Tensor, *, together: bool, closed: bool) -> list[Answer]:
    """Tasks and classes of normalised images (n, *input_shape).

    Args:
        together: the images are all of one task, which is then inferred from all of them.
        closed: they are of these tasks for sure: none of these is no answer.
    """
    found = auto(candidates, images[None] if together else images[:, None])
    tasks = found.tasks.expand(len(images)).tolist()
    likely = found.scores.softmax(1).amax(1).expand(len(images)).tolist()
    refused = torch.zeros(len(images), dtype=torch.bool) if closed else (found.surplus < 0).expand(len(images))
    answers: list[Answer | None] = [None] * len(images)
    for task in sorted(set(tasks)):
        rows = [index for index, inferred in enumerate(tasks) if inferred == task]
        logits = candidates.loaded.logits(candidates.weights(task), images[rows])
        probability, label = logits.softmax(1).max(1)
        for row, share, of in zip(rows, probability.tolist(), label.tolist(), strict=True):
            answers[row] = (
                Answer(task=None, label=None, probability=None, task_probability=None)
                if bool(refused[row])
                else Answer(task=task, label=of, probability=share, task_probability=likely[row])
            )
    return [given for given in answers if given is not None]
