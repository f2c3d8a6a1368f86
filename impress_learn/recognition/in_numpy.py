"""Which of a bank's tasks images are of, by signatures of pixels, in NumPy: as pixel_signature.py compares them.

Of more than 4,096 tasks a shortlist is made there; here all are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from impress_format.bank_files.task_classifier import StoredTaskClassifier
from impress_format.parts.numbers import FloatArray
from impress_format.parts.pixel_signature import MOST_LEVEL, restore_pixel_signatures
from impress_format.weights import random_words
from impress_learn.recognition.distances import DEVIATIONS, DRIFT, RANGE, SIGN_MEAN, SIGN_SPREAD, SLACK


@dataclass(frozen=True, eq=False)
class Points:
    """Where images lie: positions (n, m), and projections on random directions (n, signs)."""

    positions: FloatArray
    projections: FloatArray

    def mean(self) -> Points:
        """The mean of all points, as one."""
        return Points(self.positions.mean(0, keepdims=True), self.projections.mean(0, keepdims=True))

    def one(self, place: int) -> Points:
        return Points(self.positions[place : place + 1], self.projections[place : place + 1])


@dataclass(frozen=True, eq=False)
class KnownTasks:
    """T tasks, whose signatures are read (pixel_signature.Signatures).

    Attributes:
        signs: float32 (T, signs), 1 or -1.
        varies: (T, 2).
    """

    classifier: StoredTaskClassifier
    images: FloatArray
    positions: FloatArray
    spread: FloatArray
    signs: FloatArray
    gain: FloatArray
    sign_spread: FloatArray
    varies: FloatArray

    def likely(self, points: Points) -> tuple[int, bool, float]:
        """For images that share a task: the likeliest task, whether they are of none, and how likely that task is."""
        scores = self._log_likelihoods(points.mean(), len(points.positions))
        task = int(scores.argmax())
        return task, self._is_unknown(task, points), float(1 / np.exp(scores - scores[task]).sum())

    def _log_likelihoods(self, mean: Points, images: int) -> FloatArray:
        """Log-likelihoods (T,) of the mean of `images` images."""
        m, signs = mean.positions.shape[1], mean.projections.shape[1]
        share = 1 / images + 1 / self.images
        noise = self.spread * share
        apart = np.square(mean.positions - self.positions).sum(1)
        likelihood = -0.5 * (apart / noise + m * np.log(noise))
        # A sign stands for a normal variable of the task's gain: its mean size, and its variance.
        size, noise = SIGN_MEAN * self.gain, self.sign_spread * share + SIGN_SPREAD * np.square(self.gain)
        products = self.signs @ mean.projections[0]
        distance = np.square(mean.projections).sum() - 2 * size * products + signs * np.square(size)
        scores: FloatArray = likelihood - 0.5 * self.classifier.sign_weight * (distance / noise + signs * np.log(noise))
        return scores

    def _is_unknown(self, task: int, points: Points) -> bool:
        """Whether images, or their mean, lie further from a task than its own images do."""
        images, itself = len(points.positions), 1 / float(self.images[task])
        single = self._distances(task, points, 1 + itself).mean(0)
        mean = self._distances(task, points.mean(), 1 / images + itself + DRIFT)[0]
        limit = DEVIATIONS * self.varies[task]
        return bool((single > 1 + SLACK + limit / math.sqrt(images)).any() or (mean > 1 + SLACK + limit).any())

    def _distances(self, task: int, points: Points, share: float) -> FloatArray:
        """Squared distances (n, 2) from one task in positions and in projections: 1 on average for its own."""
        gain, signs = self.gain[task], points.projections.shape[1]
        noise = self.sign_spread[task] * share + SIGN_SPREAD * np.square(gain)
        near = np.square(points.positions - self.positions[task]).sum(1) / (self.spread[task] * share)
        far = np.square(points.projections - self.signs[task] * (SIGN_MEAN * gain)).sum(1) / noise
        distances: FloatArray = np.stack([near / max(points.positions.shape[1], 1), far / signs], axis=1)
        return distances


def known_tasks(classifier: StoredTaskClassifier, signatures: npt.NDArray[np.uint8]) -> KnownTasks:
    """What T signatures say, uint8 (T, 64)."""
    stored = restore_pixel_signatures(signatures, classifier.positions)
    images, gain, spread, sign_spread, *varies = np.exp2(stored.exponents).T
    bits = np.unpackbits(stored.signs, axis=1, count=classifier.signs, bitorder="little")
    return KnownTasks(
        classifier=classifier,
        images=images,
        positions=stored.levels * np.sqrt(classifier.between) * np.float32(RANGE / MOST_LEVEL),
        spread=spread,
        signs=bits.astype(np.float32) * 2 - 1,
        gain=gain,
        sign_spread=sign_spread,
        varies=np.stack(varies, axis=1),
    )


def place(classifier: StoredTaskClassifier, rows: FloatArray) -> Points:
    """Where normalised images lie, a row (n, D) each, as large as the task classifier sees them."""
    count = rows.shape[1]
    words = random_words(0, "recogniser", -(-count * classifier.signs // 64)).astype("<u8").view(np.uint8)
    bits = np.unpackbits(words, count=count * classifier.signs, bitorder="little").reshape(count, classifier.signs)
    directions = (bits.astype(np.float32) * 2 - 1) / np.float32(math.sqrt(count))
    scaled = (rows - classifier.center.astype(np.float32)) / classifier.scale.astype(np.float32)
    hidden = np.maximum(scaled @ (classifier.hidden * classifier.hidden_step) + classifier.hidden_bias, 0)
    return Points(hidden @ classifier.output + classifier.output_bias, scaled @ directions)
