"""What answers for a bank's images: what `impress infer` asks, whether torch answers or NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from impress_learn.face.prediction import FoundTask, Prediction

Images = npt.NDArray[np.uint8]
"""(n, C, H, W), as the bank wants them."""


class Answering(Protocol):
    """A bank in memory that answers."""

    def classify_as(self, images: Images, name: str) -> Sequence[Prediction]:
        """Classes of images that are known to be of one stored task."""

    def find_tasks(self, images: Images) -> Sequence[FoundTask]:
        """Which of the candidates each image is likely to be of."""

    def find_common_task(self, parts: Iterable[Images]) -> FoundTask | None:
        """Which one all of these images are likely to be of; None if there are none."""

    def classify_among(self, images: Images, found: Sequence[FoundTask]) -> Sequence[Prediction]:
        """Classes of images, each under the weights of the task that it was found to be of."""
