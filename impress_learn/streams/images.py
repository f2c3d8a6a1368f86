"""Labelled images of one split, normalised batch by batch on the device: in memory, or mapped from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Augment = Callable[[Tensor, torch.Generator], Tensor]


class Images(Protocol):
    """Labelled images, wherever their pixels are.

    Attributes:
        labels: int64 (N,), on the device that batches come on.
        mean, std: per channel, in units of pixel / 255.
        augment: what batches with a generator go through, on the device; None for nothing.
        sets: int64 (N,), on the CPU: images of one number belong together, and are held out together; None where each
            is by itself.
    """

    @property
    def labels(self) -> Tensor: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def augment(self) -> Augment | None: ...
    @property
    def sets(self) -> Tensor | None: ...
    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def pixels_of(self, indices: Tensor | slice) -> Tensor:
        """uint8 images (B, C, H, W)."""

    def batch(self, indices: Tensor | slice, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Normalised float32 images (B, C, H, W), augmented if there is a generator, and labels (B,)."""

    def subset(self, indices: Tensor) -> Images: ...

    def renumbered(self, numbers: Sequence[int]) -> Images:
        """Those whose label has another number, with that as their label: `numbers` has one a label, -1 for none."""

    def varied(self, augment: Augment) -> Images:
        """The same images, augmented otherwise."""

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Images:
        """The same images, normalised otherwise."""

    def to(self, device: torch.device) -> Images: ...


@dataclass(frozen=True, eq=False)
class ImagesInMemory:
    """Images on the device.

    Attributes:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,).
    """

    pixels: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment | None = None
    sets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def pixels_of(self, indices: Tensor | slice) -> Tensor:
        return self.pixels[indices]

    def batch(self, indices: Tensor | slice, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        return _batch(self, indices, generator)

    def subset(self, indices: Tensor) -> ImagesInMemory:
        return replace(
            self, pixels=self.pixels[indices], labels=self.labels[indices], sets=_some_sets(self.sets, indices)
        )

    def renumbered(self, numbers: Sequence[int]) -> ImagesInMemory:
        rows, labels = _renumbered(self.labels, numbers)
        return replace(self.subset(rows), labels=labels)

    def varied(self, augment: Augment) -> ImagesInMemory:
        return replace(self, augment=augment)

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> ImagesInMemory:
        return replace(self, mean=mean, std=std)

    def to(self, device: torch.device) -> ImagesInMemory:
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, eq=False)
class MappedImages:
    """Images read from a file whenever they are asked for, so that more than fits in memory can be learned from.

    Attributes:
        file: uint8 (M, C, H, W), a memory map.
        rows: int64 (N,), on the CPU: which images of the file these are.
        labels: int64 (N,).
        transform: applied to each batch that is read, on the CPU.
    """

    file: npt.NDArray[np.uint8]
    rows: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    transform: Callable[[Tensor], Tensor] = lambda pixels: pixels
    augment: Augment | None = None
    sets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def pixels_of(self, indices: Tensor | slice) -> Tensor:
        rows = self.rows[indices if isinstance(indices, slice) else indices.cpu()].numpy()
        return self.transform(torch.from_numpy(np.asarray(self.file[rows]))).to(self.device, non_blocking=True)

    def batch(self, indices: Tensor | slice, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        return _batch(self, indices, generator)

    def subset(self, indices: Tensor) -> MappedImages:
        return replace(
            self, rows=self.rows[indices.cpu()], labels=self.labels[indices], sets=_some_sets(self.sets, indices)
        )

    def renumbered(self, numbers: Sequence[int]) -> MappedImages:
        rows, labels = _renumbered(self.labels, numbers)
        return replace(self.subset(rows), labels=labels)

    def varied(self, augment: Augment) -> MappedImages:
        return replace(self, augment=augment)

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> MappedImages:
        return replace(self, mean=mean, std=std)

    def to(self, device: torch.device) -> MappedImages:
        return replace(self, labels=self.labels.to(device))


@dataclass(frozen=True, eq=False)
class NormalisedImages:
    """Images that whoever has them has normalised, on the device: they stay as they are, but for what augments them.

    Attributes:
        values: float32 (N, C, H, W).
        labels: int64 (N,).
        mean, std: that they are normalised by.
    """

    values: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment | None = None
    sets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.values.device

    def pixels_of(self, indices: Tensor | slice) -> Tensor:
        """float32: what there is."""
        return self.values[indices]

    def batch(self, indices: Tensor | slice, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        batch = self.values[indices]
        if self.augment is not None and generator is not None:
            batch = self.augment(batch, generator)
        return batch, self.labels[indices]

    def subset(self, indices: Tensor) -> NormalisedImages:
        return replace(
            self, values=self.values[indices], labels=self.labels[indices], sets=_some_sets(self.sets, indices)
        )

    def renumbered(self, numbers: Sequence[int]) -> NormalisedImages:
        rows, labels = _renumbered(self.labels, numbers)
        return replace(self.subset(rows), labels=labels)

    def varied(self, augment: Augment | None) -> NormalisedImages:
        return replace(self, augment=augment)

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> NormalisedImages:
        assert (mean, std) == (self.mean, self.std)
        return self

    def to(self, device: torch.device) -> NormalisedImages:
        return replace(self, values=self.values.to(device), labels=self.labels.to(device))


MOST_IN_MEMORY = 2 << 30
"""Bytes of pixels up to which the images of a task are transformed once and kept."""
_CHUNK = 10_000


def transformed(
    images: Images, transform: Callable[[Tensor], Tensor], augment: Augment | None = None, *, keep: bool = True
) -> Images:
    """The images of a task: made once and kept in memory where they fit, else made batch by batch.

    Args:
        keep: False to make them batch by batch wherever that can be.
    """
    if len(images) == 0:
        return images
    if isinstance(images, NormalisedImages):  # they are as the network takes them
        return images.varied(augment)
    if isinstance(images, MappedImages) and (not keep or len(images) * images.file[0].size > MOST_IN_MEMORY):
        return replace(images, transform=transform, augment=augment)
    chunks = [transform(images.pixels_of(slice(start, start + _CHUNK))) for start in range(0, len(images), _CHUNK)]
    return ImagesInMemory(torch.cat(chunks), images.labels, images.mean, images.std, augment, images.sets)


def evenly_spread(n: int, most: int, *, fill: bool = False, nearest: bool = False) -> Tensor:
    """Which of `n` images are taken where no more than `most` are wanted: int64 (min(there, most),), ascending.

    Args:
        fill: whether `most` are taken however few there are, some of them twice.
        nearest: whether each place between two images is rounded to the nearer one, not down.
    """
    places = torch.linspace(0, n - 1, most if fill else min(n, most))
    return (places.round() if nearest else places).long()


def _some_sets(sets: Tensor | None, indices: Tensor) -> Tensor | None:
    return None if sets is None else sets[indices.cpu()]


def _renumbered(labels: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The rows whose labels have another number, and these numbers."""
    changed = torch.tensor(numbers, device=labels.device)[labels]
    (rows,) = torch.nonzero(changed >= 0, as_tuple=True)
    return rows, changed[rows]


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 (B, C, H, W) -> float32 of mean 0 and deviation 1 over the data set."""
    shape = (-1, 1, 1)
    scale = torch.tensor(std).to(pixels.device, non_blocking=True).reshape(shape) * 255.0
    shift = torch.tensor(mean).to(pixels.device, non_blocking=True).reshape(shape) * 255.0
    return (pixels.float() - shift) / scale


def _batch(images: Images, indices: Tensor | slice, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    batch = normalise(images.pixels_of(indices), images.mean, images.std)
    if images.augment is not None and generator is not None:
        batch = images.augment(batch, generator)
    return batch, images.labels[indices]
