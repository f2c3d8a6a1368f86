"""How long to train: arithmetic on numbers of images, without data or torch."""

from __future__ import annotations

import math

from impress_format.errors import UsageError
from impress_learn.streams.catalog import StreamInfo

_MASK_EPOCHS, _MASK_STEPS = 3, 1_000
_TASK_EPOCHS, _TASK_STEPS = 3, 500


def train_images(stream: StreamInfo, holdout: float, shots: int | None = None) -> int:
    """Images that a task of `stream` is learned from."""
    kept = stream.train_images - held_out(stream.train_images, holdout)
    return kept if shots is None else shots * stream.classes


def held_out(images: int, fraction: float) -> int:
    """How many of `images` training images are held out.

    Raises:
        UsageError: none would be, or none would be left.
    """
    held = round(fraction * images)
    if fraction > 0 and not 0 < held < images:
        raise UsageError(
            f"`holdout` {fraction:g} holds out {held:,} of {images:,} training images: expected some of them"
        )
    return held


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in one pass; what is left over waits for another epoch's order. Few images are one batch."""
    return max(1, images // batch_size)


def mask_epochs(images: int, batch_size: int) -> int:
    """Default for masks: 3 epochs, or as many as make 1,000 steps where a stream has few images."""
    return _enough(_MASK_EPOCHS, _MASK_STEPS, images, batch_size)


def task_epochs(images: int, batch_size: int) -> int:
    """Default for alpha: 3 epochs, or as many as make 500 steps."""
    return _enough(_TASK_EPOCHS, _TASK_STEPS, images, batch_size)


def _enough(epochs: int, steps: int, images: int, batch_size: int) -> int:
    return max(epochs, math.ceil(steps / steps_per_epoch(images, batch_size)))
