"""Rows of a figure -> a picture, as SVG and PNG. matplotlib is imported here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import floor
from pathlib import Path
from statistics import mean, median

from impress_learn.reproduce.bench import Row

_COLOURS = {"heterogeneous": "#1f5c8b", "homogeneous": "#b8431f", "random": "#6b6b6b"}
_LEVELS = {"own mask": ("-", "#222222"), "best mask": ("--", "#3d8b5f"), "wrong mask": (":", "#888888")}
_DENSITIES = ("#1f5c8b", "#b8431f", "#3d8b5f", "#7a4fa3", "#a8801c", "#3a8f9a")


def draw(title: str, rows: Sequence[Row], path: Path) -> list[Path]:
    """Write PATH.svg and PATH.png; the same rows give the same SVG.

    Args:
        rows: of one figure: boxes where there are several densities, lines over the number of masks where there are
            several, bars else; a panel for each stream, and for each kind of boxes.
    """
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "impress"
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: a third of the bytes, and it can be read aloud
    from matplotlib import pyplot

    boxes = len({row.density for row in rows if row.what == "combined"}) > 1
    panels = _panels(rows, by_kind=boxes)
    size = (6.4 if len(panels) == 1 else 4.4 * len(panels), 4.2)
    figure, drawn = pyplot.subplots(1, len(panels), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axes, (name, some) in zip(drawn[0], panels.items(), strict=True):
        if boxes:
            _draw_boxes(axes, some)
        elif _over_masks(some):
            _draw_lines(axes, some)
        else:
            _draw_bars(axes, some)
        if len(panels) > 1:
            axes.set_title(name, fontsize=10)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    drawn[0][0].set_ylabel("accuracy on test images, %")
    least = min(100 * row.accuracy for row in rows)
    bars = not boxes and not _over_masks(rows)
    drawn[0][0].set_ylim(5 * floor(least / 5) - 5 if least > 60 and not bars else 0, 100)
    written = [path.with_suffix(".svg"), path.with_suffix(".png")]
    figure.savefig(written[0], metadata={"Date": None})
    figure.savefig(written[1], dpi=150, metadata={"Software": None})
    pyplot.close(figure)
    return written


def _over_masks(rows: Sequence[Row]) -> bool:
    """Whether several numbers of masks were measured, which a line can go through."""
    return len({row.masks for row in rows if row.what not in _LEVELS}) > 1


def _panels(rows: Sequence[Row], *, by_kind: bool) -> dict[str, list[Row]]:
    """Rows by panel: a mask of the task's own belongs to all kinds of its stream."""
    names = dict.fromkeys((row.stream, row.kind if by_kind else "") for row in rows if row.what not in _LEVELS)
    return {
        kind or stream: [row for row in rows if row.stream == stream and (not kind or row.kind in (kind, "own"))]
        for stream, kind in names
    }


def _draw_lines(axes, rows: Sequence[Row]) -> None:  # type: ignore[no-untyped-def]
    lines = [row for row in rows if row.what not in _LEVELS]
    series = defaultdict[tuple[str, str], dict[int, list[float]]](lambda: defaultdict(list))
    for row in lines:
        series[row.kind, row.what][row.masks].append(100 * row.accuracy)
    for (kind, what), values in sorted(series.items()):
        counts = sorted(values)
        combined = what == "combined"
        drawn = axes.plot(
            counts,
            [mean(values[count]) for count in counts],
            marker="o",
            markersize=4,
            label=kind if combined else what,
            color=_COLOURS[kind] if combined else None,
        )[0]
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
    _explain(axes)


def _draw_boxes(axes, rows: Sequence[Row]) -> None:  # type: ignore[no-untyped-def]
    """A box for each number of masks and density over the new tasks, a line for each density through their medians."""
    combined = [row for row in rows if row.what == "combined"]
    counts, densities = sorted({row.masks for row in combined}), sorted({row.density for row in combined})
    width = 0.8 / len(densities)
    for index, (density, colour) in enumerate(zip(densities, _DENSITIES, strict=False)):
        there = [
            (place + (index + 0.5) * width - 0.4, values)
            for place, count in enumerate(counts)
            if (values := [100 * row.accuracy for row in combined if (row.masks, row.density) == (count, density)])
        ]
        places, groups = [place for place, _ in there], [group for _, group in there]
        drawn = axes.boxplot(groups, positions=places, widths=0.8 * width, patch_artist=True, manage_ticks=False)
        for box in drawn["boxes"]:
            box.set(facecolor=colour, alpha=0.25, edgecolor=colour)
        for part in ("whiskers", "caps", "medians"):
            for line in drawn[part]:
                line.set_color(colour)
        axes.plot(
            places, [median(group) for group in groups], color=colour, linewidth=1.2, label=f"density {density:g}"
        )
        for what in ("own mask", "best mask"):
            if some := [100 * row.accuracy for row in rows if (row.what, row.density) == (what, density)]:
                axes.axhline(mean(some), linestyle=_LEVELS[what][0], color=colour, linewidth=0.9, alpha=0.7)
    for what in ("own mask", "best mask"):
        if any(row.what == what for row in rows):
            axes.plot([], [], linestyle=_LEVELS[what][0], color="#444444", linewidth=0.9, label=what)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set_xlabel("masks that are combined")
    _explain(axes)


def _explain(axes) -> None:  # type: ignore[no-untyped-def]
    """A legend below, where it hides nothing."""
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)


def _draw_bars(axes, rows: Sequence[Row]) -> None:  # type: ignore[no-untyped-def]
    names = list(dict.fromkeys(row.what for row in rows))
    means = [mean(100 * row.accuracy for row in rows if row.what == name) for name in names]
    bars = axes.bar(names, means, color="#1f5c8b", width=0.6)
    axes.bar_label(bars, [f"{value:.1f}" for value in means], padding=2, fontsize=9)
