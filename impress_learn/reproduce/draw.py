"""Rows of a figure -> a picture, as SVG and PNG. matplotlib is imported here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import floor
from pathlib import Path
from statistics import mean

from impress_learn.reproduce.cells import Row

_COLOURS = {"heterogeneous": "#1f5c8b", "homogeneous": "#b8431f", "random": "#6b6b6b"}
_LEVELS = {"own mask": ("-", "#222222"), "best mask": ("--", "#3d8b5f"), "wrong mask": (":", "#888888")}


def draw(title: str, rows: Sequence[Row], path: Path) -> list[Path]:
    """Write PATH.svg and PATH.png; the same rows give the same SVG.

    Args:
        rows: of one figure: lines over the number of masks where there are several, bars else.
    """
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "impress"
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: a third of the bytes, and it can be read aloud
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    lines = [row for row in rows if row.what not in _LEVELS]
    if len({row.masks for row in lines}) > 1:
        _draw_lines(axes, rows, lines)
    else:
        _draw_bars(axes, lines)
    axes.set_title(title, fontsize=11)
    axes.set_ylabel("accuracy on test images, %")
    least = min(100 * row.accuracy for row in rows)
    axes.set_ylim(5 * floor(least / 5) - 5 if least > 60 else 0, 100)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    written = [path.with_suffix(".svg"), path.with_suffix(".png")]
    figure.savefig(written[0], metadata={"Date": None})
    figure.savefig(written[1], dpi=150, metadata={"Software": None})
    pyplot.close(figure)
    return written


def _draw_lines(axes, rows: Sequence[Row], lines: Sequence[Row]) -> None:  # type: ignore[no-untyped-def]
    several = len({row.density for row in lines}) > 1
    series = defaultdict[tuple[str, str, str, float], dict[int, list[float]]](lambda: defaultdict(list))
    for row in lines:
        series[row.stream, row.kind, row.what, row.density][row.masks].append(100 * row.accuracy)
    streams = {row.stream for row in lines}
    for (stream, kind, what, density), values in sorted(series.items()):
        label = ", ".join(
            part
            for part in (
                kind if what == "combined" else what,
                f"density {density:g}" if several else "",
                stream if len(streams) > 1 else "",
            )
            if part
        )
        counts = sorted(values)
        colour = _COLOURS[kind] if what == "combined" else None
        means = [mean(values[count]) for count in counts]
        drawn = axes.plot(counts, means, marker="o", markersize=4, label=label, color=colour)[0]
        axes.fill_between(
            counts,
            [min(values[count]) for count in counts],
            [max(values[count]) for count in counts],
            color=drawn.get_color(),
            alpha=0.12,
            linewidth=0,
        )
    for what, (style, colour) in _LEVELS.items():
        if some := [100 * row.accuracy for row in rows if row.what == what and row.kind != "homogeneous"]:
            axes.axhline(mean(some), linestyle=style, color=colour, linewidth=1.2, label=what)
    axes.set_xscale("log")
    ticks = sorted({row.masks for row in lines})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("masks that are combined")
    axes.legend(fontsize=8, frameon=False)


def _draw_bars(axes, lines: Sequence[Row]) -> None:  # type: ignore[no-untyped-def]
    names = list(dict.fromkeys(row.what for row in lines))
    means = [mean(100 * row.accuracy for row in lines if row.what == name) for name in names]
    bars = axes.bar(names, means, color="#1f5c8b", width=0.6)
    axes.bar_label(bars, [f"{value:.1f}" for value in means], padding=2, fontsize=9)
