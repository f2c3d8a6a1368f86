"""How large a reproduction is: data, masks, epochs, how many masks are combined, on how many new tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from impress_learn.training.config import MaskTraining, TaskTraining

ScaleName = Literal["tiny", "small", "paper"]
Stream = Literal["rotated", "permuted"]
Kind = Literal["heterogeneous", "homogeneous", "random"]
STREAMS: tuple[Stream, ...] = ("rotated", "permuted")
KINDS: tuple[Kind, ...] = ("heterogeneous", "homogeneous", "random")

_GOLDEN_ANGLE = 222.492
"""Degrees from one angle to the next, so that the first of them are spread however many there are."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One size of all experiments.

    Attributes:
        images: the data set that streams are made of, as the name of a stream ends: `digits`, `mnist`.
        densities: of masks.
        counts: how many masks are combined, ascending.
        most: masks of a pool, by stream and kind; counts beyond are left out.
        new: keys of tasks that no mask is trained for, by stream.
        masks, alpha: how masks and coefficients are trained.
        fitted: masks whose own tasks basis-GN looks at.
        samples: images that share a task, where it is inferred.
    """

    images: str
    densities: tuple[float, ...]
    counts: tuple[int, ...]
    most: Mapping[tuple[Stream, Kind], int]
    new: Mapping[Stream, tuple[int, ...]]
    masks: MaskTraining
    alpha: TaskTraining
    fitted: int
    samples: int = 128

    def counts_of(self, stream: Stream, kind: Kind) -> tuple[int, ...]:
        """How many masks of this kind are combined."""
        return tuple(count for count in self.counts if count <= self.most[stream, kind])

    def reference(self, stream: Stream, key: int) -> str:
        """The task of a key."""
        return f"{stream}-{self.images}/{key}"

    def basis(self, stream: Stream, kind: Kind) -> list[str]:
        """The tasks that masks of a pool are trained for, in order: the first of them are spread over the stream."""
        if kind != "heterogeneous":
            return [self.reference(stream, 0)]
        keys = range(self.most[stream, kind])
        if stream == "rotated":
            return [self.reference(stream, round(key * _GOLDEN_ANGLE) % 360) for key in keys]
        return [self.reference(stream, key) for key in keys]


def _pools(rotated: int, others: int) -> dict[tuple[Stream, Kind], int]:
    """Angles are 360, and lie close together from 25 on; permutations and seeds are as many as anybody wants."""
    return {(stream, kind): others for stream in STREAMS for kind in KINDS} | {("rotated", "heterogeneous"): rotated}


SCALES: Mapping[ScaleName, Scale] = {
    "tiny": Scale(
        images="digits",
        densities=(0.1,),
        counts=(2, 4, 8),
        most=_pools(8, 8),
        new={"rotated": (13, 251), "permuted": (1001, 1002)},
        masks=MaskTraining(epochs=8),
        alpha=TaskTraining(epochs=12),
        fitted=2,
        samples=32,
    ),
    "small": Scale(
        images="mnist",
        densities=(0.1,),
        counts=(5, 10, 25, 50, 100),
        most=_pools(25, 100),
        new={"rotated": (13, 133, 251), "permuted": (1001, 1002, 1003)},
        masks=MaskTraining(epochs=1),
        alpha=TaskTraining(epochs=1),
        fitted=5,
    ),
    "paper": Scale(
        images="mnist",
        densities=(0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
        counts=(5, 10, 25, 50, 100, 150, 200, 250),
        most=_pools(50, 250),
        new={"rotated": (13, 61, 133, 197, 251), "permuted": (1001, 1002, 1003, 1004, 1005)},
        masks=MaskTraining(epochs=3, optimizer="rmsprop", lr=0.002, batch_size=128),
        alpha=TaskTraining(epochs=3, optimizer="rmsprop", lr=0.002),
        fitted=5,
    ),
}
