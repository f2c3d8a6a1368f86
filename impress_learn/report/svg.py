"""Charts as inline SVG, one width for all: text keeps its size on a phone. Colours are classes of style.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from impress_learn.report.words import escape

WIDTH = 440
LEFT, RIGHT, TOP, BOTTOM = 52, 24, 24, 40
_CHARACTER = 6.8
"""Pixels of a character of a label, about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A scale from `low` to `high`, logarithmic if it says so, with texts at some of its values."""

    low: float
    high: float
    title: str
    ticks: tuple[tuple[float, str], ...] = ()
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value is, 0 at the low end and 1 at the high one."""
        low, high, at = (math.log10(one) if self.log else one for one in (self.low, self.high, value))
        return (at - low) / ((high - low) or 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A chart's two axes and its height in pixels."""

    x: Axis
    y: Axis
    height: int
    left: int = LEFT
    right: int = RIGHT

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        across = self.left + self.x.share(x) * (WIDTH - self.left - self.right)
        return across, self.height - BOTTOM - self.y.share(y) * (self.height - TOP - BOTTOM)

    def draw(self) -> str:
        """Lines, ticks and titles."""
        parts = []
        for value, text in self.y.ticks:
            _, down = self.at(self.x.low, value)
            parts.append(f'<path class="g" d="M{self.left} {down:.1f}H{WIDTH - self.right}"/>')
            parts.append(label(self.left - 6, down + 4, text, "end"))
        for value, text in self.x.ticks:
            across, _ = self.at(value, self.y.low)
            parts.append(f'<path class="g" d="M{across:.1f} {TOP}V{self.height - BOTTOM}"/>')
            parts.append(label(across, self.height - BOTTOM + 15, text, "middle"))
        middle = (self.left + WIDTH - self.right) / 2
        parts.append(label(middle, self.height - 6, self.x.title, "middle", "t m"))
        if self.y.title:
            parts.append(label(4, TOP - 11, self.y.title, "start", "t m"))
        return "".join(parts)


def chart(sentence: str, height: int, parts: Iterable[str]) -> str:
    """An SVG of WIDTH pixels that is an image with this sentence for who does not see it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(sentence)}">' + "".join(parts) + "</svg>"
    )


def label(x: float, y: float, text: str, anchor: str = "start", classes: str = "t") -> str:
    """A text at a point; `anchor` says which of its ends is there."""
    placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}"{placed}>{escape(text)}</text>'


def dot(at: tuple[float, float], classes: str, radius: float = 4.5) -> str:
    """A point."""
    return f'<circle class="{classes}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:g}"/>'


def square(at: tuple[float, float], classes: str, radius: float = 4.0) -> str:
    """A point of another kind, also for who sees no colours."""
    x, y = at[0] - radius, at[1] - radius
    return f'<rect class="{classes}" x="{x:.1f}" y="{y:.1f}" width="{2 * radius:g}" height="{2 * radius:g}"/>'


def line(points: Sequence[tuple[float, float]], classes: str) -> str:
    """A line through points."""
    return f'<path class="{classes}" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + '"/>'


def key(entries: Sequence[tuple[str, str, str]], y: float) -> str:
    """What marks stand for, in a row: shape (`dot`, `square`, `tick`), class, words."""
    parts, x = [], 8.0
    for shape, classes, words in entries:
        if shape == "tick":
            parts.append(line([(x, y - 5), (x, y + 5)], classes))
        else:
            parts.append((dot if shape == "dot" else square)((x, y), classes))
        parts.append(label(x + 9, y + 4, words))
        x += 26 + _CHARACTER * len(words)
    return "".join(parts)


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two, at most so many of them or one more."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= most:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    return [round(step * place, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def powers_of_ten(low: float, high: float) -> list[float]:
    """Those from one value to another."""
    return [10.0**power for power in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]


def push_apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places moved as little as makes neighbours `gap` apart, within `low` and `high` where there is room."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    previous = low - gap
    for index in order:
        previous = moved[index] = max(moved[index], previous + gap)
    following = high + gap
    for index in reversed(order):
        following = moved[index] = min(moved[index], following - gap)
    return moved


def place_labels(points: Sequence[tuple[float, float]], texts: Sequence[str], height: int) -> str:
    """Labels beside points, each at the first of eight places that is free; one that finds none is left out."""
    taken = [(x - 5.0, y - 5.0, x + 5.0, y + 5.0) for x, y in points]
    parts = []
    for (x, y), text in zip(points, texts, strict=True):
        wide = _CHARACTER * len(text)
        for anchor, across, down in _AROUND:
            left = x + across - (wide if anchor == "end" else wide / 2 if anchor == "middle" else 0)
            box = (left, y + down - 9, left + wide, y + down + 2)
            inside = box[0] >= 2 and box[2] <= WIDTH - 2 and box[1] >= 0 and box[3] <= height - BOTTOM + 6
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(label(x + across, y + down, text, anchor))
                break
    return "".join(parts)


_AROUND = (
    ("start", 8, 4),
    ("end", -8, 4),
    ("middle", 0, -8),
    ("middle", 0, 16),
    ("start", 6, -6),
    ("end", -6, -6),
    ("start", 6, 13),
    ("end", -6, 13),
)


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
