"""64 bytes that tell the images of one task from those of others (docs/format.md, Signatures; docs/method.md).

A signature is the mean over a task's training images of where the task classifier places them: positions, a byte each,
and of projections on random directions the signs. Beside them stand six sizes, a byte each: the number of these images,
how large the projections' means are, and for positions and for projections how far single images spread, and how much
they differ in their distance.
Images asked about are compared by how likely their mean is under each task, not rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from impress_format.parts.pixel_signature import MOST_LEVEL, restore_pixel_signatures, store_pixel_signature
from impress_learn.recognition.distances import (
    DEVIATIONS,
    DRIFT,
    MOST_WHOLE,
    RANGE,
    SIGN_MEAN,
    SIGN_SPREAD,
    SLACK,
)
from impress_learn.recognition.task_classifier import TaskClassifier
from impress_learn.streams.images import Images, evenly_spread

_MOST_IMAGES = 4096
_AT_ONCE = 1024
_SHORTLIST = 256
_MOST_SCORES = 1 << 24
"""Signs in memory at once, as floats: 64 MiB."""


@dataclass(frozen=True, eq=False)
class Signatures:
    """Where T tasks lie, from their signatures.

    Attributes:
        images: (T,), about how many images each is made from.
        positions: (T, m).
        spread: (T,), variance of single images in each position.
        signs: uint8 (T, ceil(signs / 8)), as they are stored.
        gain: (T,), size of the projections that the signs are of.
        sign_spread: (T,), variance of single images in each projection.
        varies: (T, 2), deviation of single images' squared distances in positions and in projections, which are 1 on
            average.
    """

    images: Tensor
    positions: Tensor
    spread: Tensor
    signs: npt.NDArray[np.uint8]
    gain: Tensor
    sign_spread: Tensor
    varies: Tensor

    def __len__(self) -> int:
        return len(self.gain)

    @cached_property
    def words(self) -> npt.NDArray[np.uint64]:
        """The signs in words of 64, a row for each word: (words, T)."""
        padded = np.pad(self.signs, ((0, 0), (0, -self.signs.shape[1] % 8)))
        return np.ascontiguousarray(padded.view(np.uint64).T)

    def some(self, places: Tensor) -> Signatures:
        """Those of some tasks."""
        return Signatures(
            images=self.images[places],
            positions=self.positions[places],
            spread=self.spread[places],
            signs=self.signs[places.cpu().numpy()],
            gain=self.gain[places],
            sign_spread=self.sign_spread[places],
            varies=self.varies[places],
        )


@dataclass(frozen=True, eq=False)
class Recognised:
    """What g groups of images are likely to be.

    Attributes:
        scores: (g, T), log-likelihood of each task; the largest for the likeliest. Among very many tasks, minus
            infinity for those that are not near.
        unknown: bool (g,), whether the images lie further from that task than its own do: none of these.
        likelihoods: whether scores are what they should be: entropies are not.
    """

    scores: Tensor
    unknown: Tensor
    likelihoods: bool = True

    @property
    def probability(self) -> Tensor | None:
        """(g,), how likely the likeliest task is the right one, if it is one of these, all as frequent; else None."""
        return self.scores.softmax(1).max(1).values if self.likelihoods else None


def make_pixel_signature(task_classifier: TaskClassifier, images: Images) -> bytes:
    """The signature of a task from these training images (`signature_images`)."""
    chosen = evenly_spread(len(images), _MOST_IMAGES).to(images.device)
    embedded = [
        task_classifier.embed(images.batch(part)[0].to(task_classifier.device)) for part in chosen.split(_AT_ONCE)
    ]
    positions = torch.cat([one for one, _ in embedded])
    projections = torch.cat([one for _, one in embedded])
    step = _position_step(task_classifier)
    levels = (positions.mean(0) / step).round().clamp(-MOST_LEVEL, MOST_LEVEL).to(torch.int8).cpu().numpy()
    mean = projections.mean(0)
    signs = (mean > 0).cpu().numpy()
    few = max(len(positions) - 1, 1)
    sizes = [
        float(len(chosen)),
        float(mean.square().mean().sqrt()),
        float((positions - positions.mean(0)).square().sum(0).mean() / few) if len(levels) else 1.0,
        float((projections - mean).square().sum(0).mean() / few),
    ]

    def signature(varies: Sequence[float]) -> bytes:
        return store_pixel_signature(task_classifier.tag, [*sizes, *varies], levels, signs)

    # The last two are measured by the others as they will be read.
    itself = read_signatures(task_classifier, np.frombuffer(signature([1.0, 1.0]), dtype=np.uint8)[np.newaxis])
    return signature(_distances(itself, 0, positions, projections, 1.0).std(0, correction=0).tolist())


def read_signatures(task_classifier: TaskClassifier, signatures: npt.NDArray[np.uint8]) -> Signatures:
    """What T signatures say, uint8 (T, 64)."""
    stored = restore_pixel_signatures(signatures, len(task_classifier.between))
    sizes = torch.exp2(torch.from_numpy(stored.exponents).to(task_classifier.device))
    images, gain, spread, sign_spread, *varies = sizes.unbind(1)
    return Signatures(
        images=images,
        positions=torch.from_numpy(stored.levels).to(task_classifier.device) * _position_step(task_classifier),
        spread=spread,
        signs=stored.signs,
        gain=gain,
        sign_spread=sign_spread,
        varies=torch.stack(varies, dim=1),
    )


def recognise(task_classifier: TaskClassifier, tasks: Signatures, groups: Tensor) -> Recognised:
    """Compare groups of images with T tasks: one pass of the task classifier, whatever T is.

    Of more than 4,096 tasks those are compared whole that are among the 256 nearest to a group by signs alone.

    Args:
        groups: normalised (g, n, *input_shape), the n images of a group of one task.
    """
    return compare(task_classifier, tasks, embed(task_classifier, groups.flatten(0, 1)).reshape(*groups.shape[:2], -1))


def embed(task_classifier: TaskClassifier, images: Tensor) -> Tensor:
    """Where normalised images (n, *input_shape) lie, (n, m + signs): positions, then projections."""
    return torch.cat([torch.cat(task_classifier.embed(part), dim=1) for part in images.split(_AT_ONCE)])


def compare(task_classifier: TaskClassifier, tasks: Signatures, embedded: Tensor) -> Recognised:
    """As `recognise`, of groups whose images are placed: (g, n, m + signs)."""
    count, images = embedded.shape[:2]
    positions, projections = embedded.split([len(task_classifier.between), task_classifier.directions.shape[1]], dim=2)
    points = positions.mean(1), projections.mean(1)
    if len(tasks) <= MOST_WHOLE:
        scores = _log_likelihoods(task_classifier, tasks, *points, images)
    else:
        near = _shortlist(task_classifier, tasks, *points, images)
        scores = torch.full((count, len(tasks)), -math.inf, device=positions.device)
        scores[:, near] = _log_likelihoods(task_classifier, tasks.some(near), *points, images)
    found = scores.argmax(1).tolist()
    unknown = [_is_unknown(tasks, task, positions[group], projections[group]) for group, task in enumerate(found)]
    return Recognised(scores, torch.tensor(unknown, device=scores.device))


def _log_likelihoods(
    task_classifier: TaskClassifier, tasks: Signatures, positions: Tensor, projections: Tensor, images: int
) -> Tensor:
    """Log-likelihoods (g, T) of mean positions (g, m) and mean projections (g, signs) over so many images."""
    at_once = max(1, _MOST_SCORES // projections.shape[1])
    parts = (_unpacked(tasks.signs[at : at + at_once], projections.shape[1]) for at in range(0, len(tasks), at_once))
    products = torch.cat([projections @ part.to(projections.device).T for part in parts], dim=1)
    return _from_products(task_classifier, tasks, positions, projections, products, images)


def _shortlist(
    task_classifier: TaskClassifier, tasks: Signatures, positions: Tensor, projections: Tensor, images: int
) -> Tensor:
    """Places of the tasks that are among the likeliest for a group, by no more than the signs of its projections."""
    signs = projections.shape[1]
    packed = np.packbits((projections > 0).cpu().numpy(), axis=1, bitorder="little")
    asked = np.ascontiguousarray(np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))).view(np.uint64)
    near = []
    for group, row in enumerate(asked):
        differing = sum((_count_ones(words ^ word) for words, word in zip(tasks.words, row, strict=True)), np.uint16(0))
        apart = torch.from_numpy(np.asarray(differing, dtype=np.float32)).to(positions.device)
        one = slice(group, group + 1)
        products = projections[one].abs().mean() * (signs - 2 * apart)[None]
        likely = _from_products(task_classifier, tasks, positions[one], projections[one], products, images)
        near.append(likely[0].topk(_SHORTLIST).indices)
    places: Tensor = torch.cat(near).unique()
    return places


def _from_products(
    task_classifier: TaskClassifier,
    tasks: Signatures,
    positions: Tensor,
    projections: Tensor,
    products: Tensor,
    images: int,
) -> Tensor:
    """As _log_likelihoods, from the products (g, T) of projections and signs."""
    m, signs = positions.shape[1], projections.shape[1]
    share = 1 / images + 1 / tasks.images
    noise = tasks.spread * share
    likelihood = -0.5 * (_squared_distances(positions, tasks.positions) / noise + m * noise.log())
    # A sign stands for a normal variable of the task's gain: its mean size, and its variance.
    size, noise = SIGN_MEAN * tasks.gain, tasks.sign_spread * share + SIGN_SPREAD * tasks.gain.square()
    distance = projections.square().sum(1, keepdim=True) - 2 * size * products + signs * size.square()
    return likelihood - 0.5 * task_classifier.sign_weight * (distance / noise + signs * noise.log())


def _is_unknown(tasks: Signatures, task: int, positions: Tensor, projections: Tensor) -> bool:
    """Whether the images of a group, or their mean, lie further from a task than its own images do."""
    images = len(positions)
    itself = 1 / float(tasks.images[task])
    single = _distances(tasks, task, positions, projections, 1 + itself).mean(0)
    share = 1 / images + itself + DRIFT
    mean = _distances(tasks, task, positions.mean(0)[None], projections.mean(0)[None], share)[0]
    limit = DEVIATIONS * tasks.varies[task]
    return bool((single > 1 + SLACK + limit / math.sqrt(images)).any() or (mean > 1 + SLACK + limit).any())


def _distances(tasks: Signatures, task: int, positions: Tensor, projections: Tensor, share: float) -> Tensor:
    """Squared distances (n, 2) of points from one task in positions and in projections: 1 on average for its own.

    Args:
        share: of the variance of single images, what the points' is.
    """
    signs = projections.shape[1]
    size = SIGN_MEAN * tasks.gain[task]
    noise = tasks.sign_spread[task] * share + SIGN_SPREAD * tasks.gain[task].square()
    row = _unpacked(tasks.signs[task : task + 1], signs)[0].to(projections.device)
    near = (positions - tasks.positions[task]).square().sum(1) / (tasks.spread[task] * share)
    far = (projections - row * size).square().sum(1) / noise
    return torch.stack([near / max(positions.shape[1], 1), far / signs], dim=1)


def _count_ones(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """Ones among the 64 bits of each word."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(words).astype(np.uint16)
    ones = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(1)
    counts: npt.NDArray[np.uint16] = ones[words.view(np.uint16).reshape(-1, 4)].sum(1).astype(np.uint16)
    return counts


def _squared_distances(points: Tensor, others: Tensor) -> Tensor:
    return points.square().sum(1, keepdim=True) - 2 * points @ others.T + others.square().sum(1)


def _unpacked(signs: npt.NDArray[np.uint8], count: int) -> Tensor:
    """Signs as 1 and -1."""
    return torch.from_numpy(np.unpackbits(signs, axis=1, count=count, bitorder="little")).float() * 2 - 1


def _position_step(task_classifier: TaskClassifier) -> Tensor:
    return task_classifier.between.sqrt() * (RANGE / MOST_LEVEL)
