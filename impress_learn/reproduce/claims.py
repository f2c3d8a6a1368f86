"""What the paper says, beside what was measured: yes, no, or not tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from impress_learn.reproduce.bench import Row

_CLOSE = 0.03
"""Accuracies that differ by less are close."""
_CLAIMED: Mapping[str, str] = {
    "heterogeneous": "combinations of few masks of other tasks come close to a mask of the task's own",
    "homogeneous": "combinations of many masks of one task come close to it too",
    "random": "combinations of many random masks are competitive",
}
_WRONG: Mapping[str, tuple[float, float]] = {"rotated": (0.1, 0.03), "permuted": (0.1, 0.03), "cifar100": (0.2, 0.02)}
"""Accuracy under a mask of another task, and how far it strays."""
_PUBLISHED_TASKS = 250
_CIFAR_RUNS: Mapping[str, Mapping[int, float]] = {
    "heterogeneous": {3: 57.1, 5: 62.0, 7: 64.1, 10: 68.1, 12: 68.5, 15: 71.9},
    "homogeneous": {3: 56.1, 5: 60.6, 7: 62.5, 10: 66.6, 12: 66.8, 15: 70.8},
    "random": {3: 30, 5: 37, 7: 44, 10: 49, 12: 48.5, 15: 51.5},
}
"""The authors' own runs on Split CIFAR-100, per cent, by kind and masks; a mask of the task's own has 88.9."""
_CIFAR_OWN = 88.9
_CIFAR_BASIS_GN = "86.0 over 3 masks, falling to 74.8 over 15; a mask of the task's own 88.9 %"


@dataclass(frozen=True)
class Claim:
    """What the paper says of a figure, and whether it is so here.

    Attributes:
        published: in a few words.
        ours: the same, measured.
        holds: None where this was not tried.
    """

    published: str
    ours: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        return "not tried" if self.holds is None else "yes" if self.holds else "no"


def judge_combined(rows: Sequence[Row]) -> list[Claim]:
    """Combinations of each kind beside a mask of the task's own, and masks of other tasks as they are."""
    own, found = mean_of(rows, what="own mask"), []
    for kind, published in _CLAIMED.items():
        most = _most(rows, kind)
        ours = mean_of(rows, what="combined", kind=kind, masks=most)
        said = f"{most} {kind} masks {_percent(ours)}, own mask {_percent(own)}"
        if kind == "random":
            others = [mean_of(rows, what="combined", kind=other) for other in ("heterogeneous", "homogeneous")]
            behind = mean_of(rows, what="combined", kind=kind) < min(others)
            found.append(Claim(f"{published}, and lag behind the others", said, behind and own - ours < _CLOSE))
        else:
            found.append(Claim(published, said, own - ours < _CLOSE))
    stream = rows[0].stream
    usual, astray = _WRONG[stream]
    wrong, best = (mean_of(rows, what=what, kind="heterogeneous") for what in ("wrong mask", "best mask"))
    said = f"mean of wrong masks {_percent(wrong)}; the best of them {_percent(best)}, which needs no coefficients"
    published = f"{100 * usual:g} ± {100 * astray:g} % under a mask of another task"
    found.append(Claim(published, said, abs(wrong - usual) <= astray))
    if stream == "cifar100":
        found += _judge_numbers(rows, own)
    return found


def _judge_numbers(rows: Sequence[Row], own: float) -> list[Claim]:
    """The numbers that the authors' own runs have, beside ours over as many masks."""
    found = [Claim(f"a mask of the task's own: {_CIFAR_OWN} %", _percent(own), _near(own, _CIFAR_OWN))]
    for kind, count in dict.fromkeys((row.kind, row.masks) for row in rows if row.what == "combined"):
        if (published := _CIFAR_RUNS[kind].get(count)) is not None:
            ours = mean_of(rows, what="combined", kind=kind, masks=count)
            found.append(Claim(f"{count} {kind} masks: {published} %", _percent(ours), _near(ours, published)))
    return found


def judge_densities(rows: Sequence[Row]) -> list[Claim]:
    """As many combined masks of each density, beside a mask of the task's own of that density."""
    found = []
    for kind in dict.fromkeys(row.kind for row in rows if row.what == "combined"):
        densities = sorted({row.density for row in rows})
        most = min(_most([row for row in rows if row.density == density], kind) for density in densities)
        for density in densities:
            some = [row for row in rows if row.density == density]
            own = mean_of(some, what="own mask")
            ours = mean_of(some, what="combined", kind=kind, masks=most)
            said = f"{most} masks {_percent(ours)}, own mask {_percent(own)}"
            if kind != "random":
                among = max(row.masks for row in some if row.what == "best mask" and row.kind == kind)
                said += f", best of {among} as it is {_percent(mean_of(some, what='best mask', kind=kind))}"
            published = f"{_CLAIMED[kind]}: density {density:g}"
            found.append(Claim(published, said, own - ours < _CLOSE))
    return found


def judge_basis_gn(rows: Sequence[Row]) -> list[Claim]:
    """Coefficients that were fitted to a mask's own task, beside the mask."""
    found = []
    for stream in dict.fromkeys(row.stream for row in rows):
        some = [row for row in rows if row.stream == stream]
        fitted, dedicated = mean_of(some, what="basis-GN"), mean_of(some, what="dedicated")
        said = f"{stream}: fitted with labels {_percent(fitted)}, the task's own mask {_percent(dedicated)}"
        published = "coefficients that are fitted from 1/K find the task's own mask"
        if stream == "cifar100":
            published += f" ({_CIFAR_BASIS_GN})"
        found.append(Claim(published, said, dedicated - fitted < _CLOSE))
    return found


def judge_gn(rows: Sequence[Row]) -> list[Claim]:
    """How often the right task is found."""
    found = []
    for what in dict.fromkeys(row.what for row in rows):
        count = max(row.masks for row in rows)
        said = f"{what.removeprefix('GN, ')}: {_percent(mean_of(rows, what=what))} among {count}"
        tried = mean_of(rows, what=what) >= 0.946 if count >= _PUBLISHED_TASKS else None
        found.append(Claim("the right one of 250 tasks is found for 94.6 % (3 epochs), 98.1 % (5)", said, tried))
    return found


def mean_of(rows: Sequence[Row], **of: object) -> float:
    """Accuracy of the rows that have these fields; NaN for none."""
    some = [row.accuracy for row in rows if all(getattr(row, name) == value for name, value in of.items())]
    return mean(some) if some else float("nan")


def _most(rows: Sequence[Row], kind: str) -> int:
    """Masks that are combined at most."""
    return max(row.masks for row in rows if row.what == "combined" and row.kind == kind)


def _near(ours: float, published: float) -> bool:
    return abs(100 * ours - published) <= 100 * _CLOSE


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
