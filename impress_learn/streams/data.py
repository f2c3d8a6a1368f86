"""Images of a task in memory: made once, kept as uint8, normalised batch by batch on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from impress_format.errors import UsageError
from impress_format.weights import permutation
from impress_learn.schedule import held_out


@dataclass(frozen=True)
class Images:
    """Labelled images of one split.

    Attributes:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,).
        mean, std: per channel, in units of pixel / 255.
    """

    pixels: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Normalised float32 images (B, C, H, W) and labels (B,)."""
        return normalise(self.pixels[indices], self.mean, self.std), self.labels[indices]

    def subset(self, indices: Tensor) -> Images:
        return replace(self, pixels=self.pixels[indices], labels=self.labels[indices])

    def to(self, device: torch.device) -> Images:
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskData:
    """One task: training and test images, and the held-out part of the training images (often empty).

    Each part is transformed when it is first asked for: measuring on 10,000 test images turns no 60,000 others.

    Attributes:
        source_train, source_validation, source_test: the images before the task's transform.
    """

    reference: str
    classes: int
    source_train: Images
    source_validation: Images
    source_test: Images
    transform: Callable[[Images], Images]
    device: torch.device | None = None

    @cached_property
    def train(self) -> Images:
        return self.transform(self.source_train).to(self.device or torch.device("cpu"))

    @cached_property
    def validation(self) -> Images:
        return self.transform(self.source_validation).to(self.device or torch.device("cpu"))

    @cached_property
    def test(self) -> Images:
        return self.transform(self.source_test).to(self.device or torch.device("cpu"))

    def measured(self, *, holdout: float) -> Images:
        """The images accuracy is measured on: the held-out ones where there are any, else the test images."""
        return self.validation if holdout > 0 else self.test

    def to(self, device: torch.device) -> TaskData:
        return replace(self, device=device)


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 (B, C, H, W) -> float32 of mean 0 and deviation 1 over the data set."""
    shape = (-1, 1, 1)
    scale = torch.tensor(std, device=pixels.device).reshape(shape) * 255.0
    shift = torch.tensor(mean, device=pixels.device).reshape(shape) * 255.0
    return (pixels.float() - shift) / scale


def hold_out(train: Images, fraction: float) -> tuple[Images, Images]:
    """Split training images into (kept, held out). The choice is fixed, so that two commands hold out the same, and
    nested: what a smaller fraction holds out, a larger one holds out too.

    Raises:
        UsageError: none would be held out, or none kept.
    """
    if fraction == 0:
        return train, train.subset(torch.arange(0))
    order = torch.from_numpy(permutation(0, f"hold out/{len(train)}", len(train)))
    held = held_out(len(train), fraction)
    return train.subset(order[held:].sort().values), train.subset(order[:held].sort().values)


def take_shots(train: Images, shots: int, seed: int) -> Images:
    """`shots` images of each class, chosen by the seed.

    Raises:
        UsageError: a class has fewer images.
    """
    order = torch.from_numpy(permutation(seed, f"shots/{len(train)}", len(train)))
    chosen = []
    for label in train.labels.unique():
        members = order[train.labels.cpu()[order] == label.cpu()]
        if len(members) < shots:
            raise UsageError(f"`shots` {shots}: class {int(label)} has only {len(members)} training images")
        chosen.append(members[:shots])
    return train.subset(torch.cat(chosen).sort().values)
