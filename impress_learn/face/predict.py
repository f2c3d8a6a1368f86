"""What images show, of a task that is given or found: what `impress infer` and `LoadedBank.predict` answer by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from impress_learn.face.own_images import OwnImage, OwnReader
from impress_learn.face.prediction import (
    ANSWERED_AT_ONCE,
    FoundTask,
    Prediction,
    one_task_remark,
    predict_by_task,
    predictions_of,
)
from impress_learn.streams.classes import TaskClasses, stored_classes
from impress_learn.streams.images import normalise
from impress_learn.streams.read_parts import images_at_once
from impress_learn.streams.view import view_of

if TYPE_CHECKING:
    from impress_learn.identify.candidates import Candidates
    from impress_learn.identify.methods import MethodName
    from impress_learn.network.backbone import Effective
    from impress_learn.recognition.pixel_signature import Recognised
    from impress_learn.running.loaded import RunningBank


def are_many(images: OwnImage | Iterable[OwnImage]) -> bool:
    """Whether these are several images: a list or the like, or an array or tensor of four dimensions."""
    if isinstance(images, (Tensor, np.ndarray)):
        return images.ndim == 4
    return isinstance(images, Iterable) and not isinstance(images, (str, bytes, Mapping))


def predict(
    loaded: RunningBank, images: OwnImage | Iterable[OwnImage], task: str | None
) -> tuple[list[Prediction], list[str]]:
    """As LoadedBank.predict, always a list; and what may make answers wrong, for people.

    Images are read and answered part by part, so that no more than a part is held.
    """
    from impress_learn.identify.candidates import Candidates
    from impress_learn.identify.found import find_candidates, only_task

    many = are_many(images)
    several = cast("list[OwnImage]", list(cast("Iterable[OwnImage]", images)) if many else [images])
    reader, remarks = OwnReader(loaded.bank), list[str]()
    name = None if task is None else loaded.bank.find_task(task)
    if name is None and (name := only_task(loaded.bank)) is not None:
        remarks.append(one_task_remark(loaded.bank, name))
    candidates = Candidates(loaded, find_candidates(loaded.bank)) if name is None else None
    predictions: list[Prediction] = []
    for start in range(0, len(several), step := images_at_once(reader.preprocess)):
        part = reader.read(several[start : start + step], first=start if many else None)
        if candidates is None:
            assert name is not None
            predictions += classify_as(loaded, part, name)
        else:
            predictions += classify_among(candidates, part, find_tasks(candidates, part, "auto"))
    return predictions, remarks + reader.remarks()


def find_tasks(candidates: Candidates, images: Tensor, method: MethodName) -> list[FoundTask]:
    """What each image is likely to be of.

    Args:
        images: (n, C, H, W), uint8 or normalised.
    """
    from impress_learn.identify.methods import infer_groups

    found: list[FoundTask] = []
    for part in images.split(ANSWERED_AT_ONCE):
        found += _read_tasks(infer_groups(candidates, method, _normalised(candidates.loaded, part)[:, None]))
    return found


def find_common_task(candidates: Candidates, parts: Iterable[Tensor], method: MethodName) -> FoundTask | None:
    """What all of these images are likely to be of, part by part as find_tasks takes them; None if there are none."""
    from impress_learn.identify.methods import infer_one_group

    small = (part for images in parts for part in images.split(ANSWERED_AT_ONCE))
    first = next(small, None)
    if first is None:
        return None
    normalised = (_normalised(candidates.loaded, part) for part in chain([first], small))
    return _read_tasks(infer_one_group(candidates, method, normalised))[0]


def classify_as(loaded: RunningBank, images: Tensor, name: str) -> list[Prediction]:
    """Classes of images that are known to be of one stored task.

    Args:
        images: (n, C, H, W), uint8 or normalised.
    """
    record = loaded.bank.read_task_record(name)
    classes = stored_classes(loaded.bank, record.task, record)
    found = [FoundTask(0, False, None)] * len(images)
    return _answers(loaded, images, loaded.task_weights(name), classes, record.task, found)


def classify_among(candidates: Candidates, images: Tensor, found: Sequence[FoundTask]) -> list[Prediction]:
    """Classes of images, each under the weights of the task that it was found to be of.

    Args:
        images: as classify_as.
        found: of each image, which of the candidates.
    """

    def answer(index: int, rows: Sequence[int]) -> list[Prediction]:
        return _answers(
            candidates.loaded,
            images[list(rows)],
            candidates.weights(index),
            candidates.classes(index),
            candidates.tasks[index].task,
            [found[row] for row in rows],
        )

    return predict_by_task(found, answer)


def _answers(
    loaded: RunningBank,
    images: Tensor,
    weights: Effective,
    classes: TaskClasses,
    task: str,
    found: Sequence[FoundTask],
) -> list[Prediction]:
    """What images show under these weights, `task` being the reference that these are of."""
    shares, indices = [], []
    for part in images.split(ANSWERED_AT_ONCE):
        share, index = loaded.logits(weights, _normalised(loaded, part), classes.count).softmax(1).max(1)
        shares += share.tolist()
        indices += index.tolist()
    return predictions_of(task, classes, found, zip(indices, shares, strict=True))


def _read_tasks(inferred: Recognised) -> list[FoundTask]:
    """The task found for each group."""
    shares = inferred.probability
    found, unknown = inferred.scores.argmax(1).tolist(), inferred.unknown.tolist()
    return list(map(FoundTask, found, unknown, [None] * len(found) if shares is None else shares.tolist()))


def _normalised(loaded: RunningBank, images: Tensor) -> Tensor:
    """On the bank's device."""
    weight_delta = images.to(loaded.basis.device)
    preprocess = view_of(loaded.bank)
    return (
        weight_delta if weight_delta.is_floating_point() else normalise(weight_delta, preprocess.mean, preprocess.std)
    )


@dataclass(frozen=True)
class WithTorch:
    """Answers by torch, for any bank (answering.Answering)."""

    loaded: RunningBank
    candidates: Candidates | None
    method: MethodName

    def classify_as(self, images: npt.NDArray[np.uint8], name: str) -> Sequence[Prediction]:
        return classify_as(self.loaded, torch.from_numpy(images), name)

    def find_tasks(self, images: npt.NDArray[np.uint8]) -> Sequence[FoundTask]:
        assert self.candidates is not None
        return find_tasks(self.candidates, torch.from_numpy(images), self.method)

    def find_common_task(self, parts: Iterable[npt.NDArray[np.uint8]]) -> FoundTask | None:
        assert self.candidates is not None
        return find_common_task(self.candidates, map(torch.from_numpy, parts), self.method)

    def classify_among(self, images: npt.NDArray[np.uint8], found: Sequence[FoundTask]) -> Sequence[Prediction]:
        assert self.candidates is not None
        return classify_among(self.candidates, torch.from_numpy(images), found)
