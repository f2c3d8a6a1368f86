"""Answers for images without torch, which takes longer to start than these take: of a bank of the built-in network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER, feature_shape
from impress_learn.face.prediction import (
    ANSWERED_AT_ONCE,
    FoundTask,
    Prediction,
    predict_by_task,
    predictions_of,
)
from impress_learn.identify.found import Found
from impress_learn.recognition.distances import MOST_WHOLE
from impress_learn.recognition.in_numpy import KnownTasks, Points, known_tasks, place
from impress_learn.running.in_numpy import Members, NumpyBank, load_in_numpy
from impress_learn.streams.classes import TaskClasses, stored_classes

if TYPE_CHECKING:
    from impress_learn.identify.methods import MethodName


@dataclass(frozen=True, eq=False)
class InNumpy:
    """Answers by NumPy (answering.Answering).

    Attributes:
        found: the tasks to choose from, and `known` by which; None where the task is given.
    """

    numpy_bank: NumpyBank
    found: Found | None
    known: KnownTasks | None

    def classify_as(self, images: npt.NDArray[np.uint8], name: str) -> Sequence[Prediction]:
        record = self.numpy_bank.bank.read_task_record(name)
        classes = stored_classes(self.numpy_bank.bank, record.task, record)
        given = [FoundTask(0, False, None)] * len(images)
        return self._answers(images, self.numpy_bank.task_weights(name), classes, record.task, given)

    def find_tasks(self, images: npt.NDArray[np.uint8]) -> Sequence[FoundTask]:
        assert self.known is not None
        points = (self._points(part) for part in _parts(images))
        return [FoundTask(*self.known.likely(some.one(row))) for some in points for row in range(len(some.positions))]

    def find_common_task(self, parts: Iterable[npt.NDArray[np.uint8]]) -> FoundTask | None:
        assert self.known is not None
        points = [self._points(part) for images in parts for part in _parts(images)]
        if not points:
            return None
        together = Points(
            np.concatenate([one.positions for one in points]), np.concatenate([one.projections for one in points])
        )
        return FoundTask(*self.known.likely(together))

    def classify_among(self, images: npt.NDArray[np.uint8], found: Sequence[FoundTask]) -> Sequence[Prediction]:
        assert self.found is not None
        tasks, bank = self.found.tasks, self.numpy_bank.bank

        def answer(index: int, rows: Sequence[int]) -> list[Prediction]:
            task = tasks[index]
            if task.mask is None:
                members, record = self.numpy_bank.task_weights(task.name), bank.read_task_record(task.name)
            else:
                members, record = self.numpy_bank.mask_weights(task.mask), None
            classes = stored_classes(bank, task.task, record)
            return self._answers(images[list(rows)], members, classes, task.task, [found[row] for row in rows])

        return predict_by_task(found, answer)

    def _points(self, images: npt.NDArray[np.uint8]) -> Points:
        assert self.known is not None
        return place(self.known.classifier, self.numpy_bank.normalised(images))

    def _answers(
        self,
        images: npt.NDArray[np.uint8],
        members: Members,
        classes: TaskClasses,
        task: str,
        found: Sequence[FoundTask],
    ) -> list[Prediction]:
        """What images show under these weights, `task` being the reference that these are of."""
        likely = np.concatenate(
            [self.numpy_bank.probabilities(members, part, classes.count) for part in _parts(images)]
        )
        indices = likely.argmax(1).tolist()
        shares = (float(row[index]) for row, index in zip(likely, indices, strict=True))
        return predictions_of(task, classes, found, zip(indices, shares, strict=True))


def _parts(images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(images), ANSWERED_AT_ONCE):
        yield images[start : start + ANSWERED_AT_ONCE]


def answering_in_numpy(bank: Bank, found: Found | None, method: MethodName) -> InNumpy | None:
    """What answers for this bank without torch; None where that takes torch: another network, a task to be found
    otherwise than by signatures, or among very many.

    Args:
        found: the tasks to choose from; None where the task is given.

    Raises:
        BackboneMismatch, FormatError.
    """
    known = None
    if found is not None:
        shape = bank.backbone.input_shape
        signed = bank.manifest.recogniser and found.without_signature is None and feature_shape(shape) == shape
        if method not in ("auto", "signature") or not signed or len(found) > MOST_WHOLE:
            return None
        known = known_tasks(bank.files.read(TASK_CLASSIFIER)[1], found.signatures)
    numpy_bank = load_in_numpy(bank)
    return None if numpy_bank is None else InNumpy(numpy_bank, found, known)
