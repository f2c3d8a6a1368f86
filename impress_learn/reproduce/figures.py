"""The figures and claims that are remade: what is measured for each, and what the paper says beside it.

Figure 5 (Split ImageNet) is not among them: its data and a GPU for days are not to be had here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from impress_learn.reproduce.bench import Cell, Row
from impress_learn.reproduce.cells import BASIS_GN, COMBINED, GN, Measurement
from impress_learn.reproduce.claims import Claim, judge_basis_gn, judge_combined, judge_densities, judge_gn
from impress_learn.reproduce.scales import KINDS, STREAMS, Kind, Scale, Stream


@dataclass(frozen=True)
class Figure:
    """One figure, table or claim of the paper.

    Attributes:
        title: for people.
        streams: that it is measured on.
        measurement: what is measured on each of its cells.
        kinds: of masks.
        judge: its rows -> what is claimed, and what is so here.
        by_density: whether all densities are looked at, or the first alone.
    """

    title: str
    streams: tuple[Stream, ...]
    measurement: Measurement
    kinds: tuple[Kind, ...]
    judge: Callable[[Sequence[Row]], list[Claim]]
    by_density: bool = False

    def cells(self, scale: Scale) -> list[Cell]:
        """Pools that it looks at; none where the scale has not its data."""
        return [
            Cell(stream, kind, density)
            for stream in self.streams
            if stream in scale.settings
            for density in scale.settings[stream].densities[: None if self.by_density else 1]
            for kind in self.kinds
        ]


_NAMES: Mapping[Stream, str] = {"rotated": "RotatedMNIST", "permuted": "PermutedMNIST", "cifar100": "SplitCIFAR-100"}


def _main(stream: Stream) -> Figure:
    title = f"{_NAMES[stream]}: new tasks as combinations of masks"
    return Figure(title, (stream,), COMBINED, KINDS, judge_combined)


def _densities(stream: Stream, *kinds: Kind) -> Figure:
    title = f"{_NAMES[stream]}: {' and '.join(kinds)} masks by density"
    return Figure(title, (stream,), COMBINED, kinds, judge_densities, by_density=True)


FIGURES: Mapping[str, Figure] = {
    "figure-2": _main("rotated"),
    "figure-3": _main("permuted"),
    "figure-4": _main("cifar100"),
    "figure-6": _densities("permuted", "heterogeneous", "random"),
    "figure-7": _densities("rotated", "homogeneous"),
    "figure-8": _densities("permuted", "homogeneous"),
    "figure-9": _densities("cifar100", "homogeneous"),
    "figure-10": _densities("cifar100", "heterogeneous", "random"),
    "basis-gn": Figure(
        "basis-GN: the tasks of the masks themselves", STREAMS, BASIS_GN, ("heterogeneous",), judge_basis_gn
    ),
    "gn": Figure("GN: which of the masks' tasks images are of", ("permuted",), GN, ("heterogeneous",), judge_gn),
}
