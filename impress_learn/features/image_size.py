"""Which image size is worth its time: heads of a pretrained network at several, tried on training images alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from impress_format.errors import UsageError
from impress_learn.features.features import AT_ONCE, frozen_features, require_classifier
from impress_learn.network.backbone import Backbone
from impress_learn.streams.images import evenly_spread, normalise
from impress_learn.streams.load import TaskData
from impress_learn.streams.view import changed_view, fitted

SIDES = (96, 128, 160)
"""Pixels that are tried beside what the network is made for."""
MOST_TASKS, _IMAGES = 5, 1_500
"""Most tasks that are tried, and most images of all of them: half a minute on one core."""
_WORTH = 0.01
"""Accuracy that a doubling of time has to gain."""
_RIDGE = 0.1
"""Ridge of a head, relative to the mean square of features."""


@dataclass(frozen=True, kw_only=True)
class TriedSize:
    """What heads came to at one size.

    Attributes:
        side: height and width, pixels.
        accuracy: mean over tasks, each image judged by a head of the others.
        seconds: that the features of an image took, here and now.
    """

    side: int
    accuracy: float
    seconds: float


def sides_for(usual: int) -> tuple[int, ...]:
    """The sizes that are tried with a network that is made for `usual` pixels."""
    return (*(side for side in SIDES if side < usual), usual)


def try_sizes(
    build: Callable[[int], Backbone], tasks: Sequence[TaskData], sides: Sequence[int], *, mirrored: bool
) -> list[TriedSize]:
    """What heads come to at each size that the network can take, in the order of `sides`.

    Args:
        build: the network for images of a size.
        tasks: whose training images are tried, read at the largest size; MOST_TASKS are enough.
        mirrored: whether the network is asked for mirror images too.

    Raises:
        UsageError: the network takes none of them, or has no classifier that a head could stand for.
    """
    tried, refused = list[TriedSize](), UsageError("no size was given")
    for side in sides:
        try:
            backbone = replace(build(side), mirrored=mirrored)
        except UsageError as error:
            refused = error
            continue
        require_classifier(backbone)
        started, shares = time.perf_counter(), list[float]()
        for task in tasks:
            found, labels = _features(backbone, task, _IMAGES // len(tasks))
            shares.append(left_out_accuracy(found, labels))
        images = sum(min(len(task.source_train), _IMAGES // len(tasks)) for task in tasks)
        seconds = (time.perf_counter() - started) / images
        tried.append(TriedSize(side=side, accuracy=sum(shares) / len(shares), seconds=seconds))
    if not tried:
        raise refused
    return tried


def choose_size(tried: Sequence[TriedSize]) -> TriedSize:
    """The size that gains most beside its pixels: of twice as many, a point. Seconds, which vary, decide nothing."""
    return max(tried, key=lambda one: one.accuracy - _WORTH * 2 * math.log2(one.side))


def in_words(tried: Sequence[TriedSize], chosen: TriedSize) -> str:
    """For people: all that was tried, and what was chosen."""
    each = ", ".join(
        f"{one.side} px {100 * one.accuracy:.1f} % ({1000 * one.seconds:.1f} ms an image)" for one in tried
    )
    return (
        f"`image_size` auto: heads on training images, each judged by a head of the others: {each}. "
        f"Takes {chosen.side}: twice the time has to gain a point"
    )


def left_out_accuracy(features: Tensor, labels: Tensor) -> float:
    """Share of images that a ridge regression of all the others to their classes tells right.

    In closed form: what the regression says of an image that it has not seen is y - (H y) / diag(H), H being the
    inverse of the regularised Gram matrix.

    Args:
        features: (n, W).
        labels: int64 (n,).
    """
    centred = (features - features.mean(0)).double().cpu()
    gram = centred @ centred.T
    ridge = _RIDGE * gram.diagonal().mean()
    inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram), dtype=gram.dtype))
    wanted = torch.nn.functional.one_hot(labels.cpu()).to(gram.dtype)
    wanted = wanted - wanted.mean(0)
    unseen = wanted - (inverse @ wanted) / inverse.diagonal()[:, None]
    return int((unseen.argmax(1) == labels.cpu()).sum()) / len(labels)


def _features(backbone: Backbone, task: TaskData, most: int) -> tuple[Tensor, Tensor]:
    """Features (n, W) of up to `most` training images, made the size that the network takes, and their labels."""
    images = task.source_train.subset(evenly_spread(len(task.source_train), most))
    view = changed_view(task.view, size=backbone.spec.input_shape[1], mode=None)
    found = []
    with torch.no_grad():
        for start in range(0, len(images), AT_ONCE):
            pixels = fitted(images.pixels_of(slice(start, start + AT_ONCE)), view).to(task.device)
            transformed = task.reference.stream.transform(pixels, task.reference.key)
            found.append(frozen_features(backbone, normalise(transformed, view.mean, view.std)))
    return torch.cat(found), images.labels
