"""Colours of the page: scales for pictures in light and dark, and the contrast that text has on them (WCAG 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

from impress_learn.report.png import Colour

STEPS = 16
"""Colours of a scale. A side of a scale that goes both ways has half of them."""

_LIGHT = ("#fdfcf9", "#cfe0e6", "#6fa8c0", "#24688f", "#0b2a4a")
_DARK = ("#16181b", "#1c3a52", "#2f7398", "#8ac0c4", "#fdf3c8")
_LIGHT_BOTH = ("#8c2d04", "#e08b4c", "#fdfcf9", "#6fa8c0", "#0b3c66")
_DARK_BOTH = ("#ffb37a", "#a3521d", "#1d2024", "#2a6a94", "#9fd4f5")


def rgb(colour: str) -> Colour:
    """`#rrggbb` as three numbers, 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _between(stops: Sequence[str], count: int) -> tuple[Colour, ...]:
    """Colours evenly along a line through these."""
    points = [rgb(stop) for stop in stops]
    found = []
    for step in range(count):
        place = step / (count - 1) * (len(points) - 1)
        first = min(int(place), len(points) - 2)
        found.append(
            tuple(
                round(one + (other - one) * (place - first))
                for one, other in zip(points[first], points[first + 1], strict=True)
            )
        )
    return tuple((red, green, blue) for red, green, blue in found)


LIGHT, DARK = _between(_LIGHT, STEPS), _between(_DARK, STEPS)
"""From little to much."""
LIGHT_BOTH, DARK_BOTH = _between(_LIGHT_BOTH, STEPS + 1), _between(_DARK_BOTH, STEPS + 1)
"""From below to above, the middle for neither."""
FINE_LIGHT, FINE_DARK = _between(_LIGHT, 48), _between(_DARK, 48)
"""From little to much, for pictures of the input."""


def hexadecimal(colour: Colour) -> str:
    """`#rrggbb`."""
    return "#" + "".join(f"{value:02x}" for value in colour)


def luminance(colour: Colour) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2)."""
    linear = [
        value / 255 / 12.92 if value / 255 <= 0.04045 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink_on(colour: Colour) -> str:
    """Black or white, whichever is read better on this colour: at least 4.5 to 1 on any."""
    return max("#000000", "#ffffff", key=lambda ink: contrast(rgb(ink), colour))
