"""How large a reproduction is: data, masks, epochs, how many masks are combined, on how many new tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from impress_learn.plan.asked import Network
from impress_learn.training.config import MaskTraining, TaskTraining

ScaleName = Literal["tiny", "small", "paper"]
Stream = Literal["rotated", "permuted", "cifar100"]
Kind = Literal["heterogeneous", "homogeneous", "random"]
STREAMS: tuple[Stream, ...] = ("rotated", "permuted", "cifar100")
KINDS: tuple[Kind, ...] = ("heterogeneous", "homogeneous", "random")

_GOLDEN_ANGLE = 222.492
"""Degrees from one angle to the next, so that the first of them are spread however many there are."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All experiments on one stream.

    Attributes:
        data: the stream, as references begin: `rotated-mnist`.
        densities: of masks, that of the main figures first.
        counts: how many masks are combined, ascending.
        most: masks of a pool, by kind; counts beyond are left out.
        most_elsewhere: masks of a pool at other densities than the first.
        basis: keys of the tasks that masks are trained for; all homogeneous masks are for the first.
        new: keys of tasks that no mask is trained for.
        network, masks, alpha: what is trained, and how.
        rates: learning rates of coefficients over masks of a kind, if not that of `alpha`.
        fitted: masks whose own tasks basis-GN and GN look at.
    """

    data: str
    densities: tuple[float, ...]
    counts: tuple[int, ...]
    most: Mapping[Kind, int]
    most_elsewhere: int
    basis: tuple[int, ...]
    new: tuple[int, ...]
    network: Network = field(default_factory=Network)
    allocation: Literal["uniform", "erdos-renyi"] = "uniform"
    masks: MaskTraining
    alpha: TaskTraining
    rates: Mapping[Kind, float] = field(default_factory=dict)
    fitted: int

    def alpha_of(self, kind: Kind) -> TaskTraining:
        """How coefficients over masks of a kind are learned."""
        return replace(self.alpha, lr=self.rates.get(kind, self.alpha.lr))

    def size_of(self, kind: Kind, density: float) -> int:
        """Masks of a pool."""
        return self.most[kind] if density == self.densities[0] else min(self.most[kind], self.most_elsewhere)

    def counts_of(self, kind: Kind, density: float) -> tuple[int, ...]:
        """How many masks of a pool are combined."""
        return tuple(count for count in self.counts if count <= self.size_of(kind, density))

    def few_counts(self) -> tuple[int, ...]:
        """The first, a middle and the last number of heterogeneous masks."""
        counts = self.counts_of("heterogeneous", self.densities[0])
        return tuple(sorted({counts[0], counts[len(counts) // 2], counts[-1]}))

    def reference(self, key: int) -> str:
        """The task of a key."""
        return f"{self.data}/{key}"

    def basis_tasks(self, kind: Kind, density: float) -> list[str]:
        """The tasks that masks of a pool are trained for, in order."""
        keys = self.basis[: self.size_of(kind, density)] if kind == "heterogeneous" else self.basis[:1]
        return [self.reference(key) for key in keys]

    def new_tasks(self) -> list[str]:
        """Tasks that no mask is trained for."""
        return [self.reference(key) for key in self.new]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One size of all experiments.

    Attributes:
        images: what data it takes, in words.
        settings: by stream; streams that are not among them are not measured.
        samples: images that share a task, where it is inferred.
    """

    images: str
    settings: Mapping[Stream, Setting]
    samples: int = 128


def _angles(count: int) -> tuple[int, ...]:
    """Keys of rotated tasks: the first of them are spread over all angles, however many there are."""
    return tuple(round(key * _GOLDEN_ANGLE) % 360 for key in range(count))


_DIGITS = Setting(
    data="rotated-digits",
    densities=(0.1, 0.2),
    counts=(2, 4, 8),
    most={"heterogeneous": 8, "homogeneous": 8, "random": 8},
    most_elsewhere=4,
    basis=_angles(8),
    new=(13, 251),
    masks=MaskTraining(epochs=8),
    alpha=TaskTraining(epochs=12),
    fitted=2,
)
_MNIST = Setting(
    data="rotated-mnist",
    densities=(0.1, 0.05, 0.2),
    counts=(5, 10, 25, 50, 100),
    most={"heterogeneous": 25, "homogeneous": 100, "random": 100},
    most_elsewhere=25,
    basis=_angles(25),
    new=(13, 133, 251),
    masks=MaskTraining(epochs=1),
    alpha=TaskTraining(epochs=1),
    fitted=5,
)
_PAPER_MNIST = Setting(
    data="rotated-mnist",
    densities=(0.1, 0.05, 0.15, 0.2, 0.25, 0.3),
    counts=(5, 10, 25, 50, 100, 150, 200, 250),
    most={"heterogeneous": 50, "homogeneous": 250, "random": 250},
    most_elsewhere=250,
    basis=_angles(50),
    new=(13, 61, 133, 197, 251),
    masks=MaskTraining(epochs=3, optimizer="rmsprop", lr=0.002, batch_size=128),
    alpha=TaskTraining(epochs=3, optimizer="rmsprop", lr=0.002),
    fitted=5,
)
_CIFAR = Setting(
    data="split-cifar100",
    densities=(0.3, 0.1),
    counts=(3, 6),
    most={"heterogeneous": 6, "homogeneous": 6, "random": 6},
    most_elsewhere=3,
    basis=tuple(range(6)),
    new=(17, 18, 19),
    network=Network(backbone="resnet-18-nf8"),
    allocation="erdos-renyi",
    masks=MaskTraining(epochs=10, optimizer="adam", lr=0.001, weight_decay=1e-4),
    alpha=TaskTraining(epochs=6, batch_size=64),
    fitted=3,
)
_PAPER_CIFAR = replace(
    _CIFAR,
    densities=(0.3, 0.1, 0.2),
    counts=(3, 5, 7, 10, 12, 15),
    most={"heterogeneous": 15, "homogeneous": 15, "random": 15},
    most_elsewhere=15,
    basis=tuple(range(15)),
    new=(15, 16, 17, 18, 19),
    network=Network(backbone="resnet-18-nf20"),
    masks=MaskTraining(epochs=250, optimizer="adam", lr=0.001, weight_decay=1e-4, batch_size=128),
    alpha=TaskTraining(epochs=150, lr=0.02, weight_decay=0.01, l1=0.005, batch_size=64),
    rates={"homogeneous": 0.005},
    fitted=5,
)


def _permuted(rotated: Setting, count: int) -> Setting:
    """The same on permutations: as many as anybody wants, none more like the first than another."""
    return replace(
        rotated,
        data=rotated.data.replace("rotated", "permuted"),
        most={**rotated.most, "heterogeneous": count},
        basis=tuple(range(count)),
        new=tuple(range(1001, 1001 + len(rotated.new))),
    )


SCALES: Mapping[ScaleName, Scale] = {
    "tiny": Scale(
        images="embedded digits", settings={"rotated": _DIGITS, "permuted": _permuted(_DIGITS, 8)}, samples=32
    ),
    "small": Scale(
        images="MNIST and CIFAR-100",
        settings={"rotated": _MNIST, "permuted": _permuted(_MNIST, 100), "cifar100": _CIFAR},
    ),
    "paper": Scale(
        images="MNIST and CIFAR-100",
        settings={"rotated": _PAPER_MNIST, "permuted": _permuted(_PAPER_MNIST, 250), "cifar100": _PAPER_CIFAR},
    ),
}
