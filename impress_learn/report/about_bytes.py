"""What the page says of bytes: where they go, what other ways would take, and what they buy."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from impress_format.operations.stats import Storage
from impress_learn.report import svg
from impress_learn.report.facts import Facts
from impress_learn.report.tables import figure, folded, table
from impress_learn.report.words import count, escape, percent, round_size, size, spread_evenly, times

_WAYS = (
    ("full_model", "one model each, float32", "one model each"),
    ("float_head", "a last layer each, float32", "a last layer each"),
    ("index16", "SupSup, 16-bit indices", "SupSup, indices"),
    ("bitmap", "SupSup, bitmap", "SupSup, bitmap"),
    ("compressed", "SupSup, compressed as here", "SupSup, as here"),
)
_GROWTH_HEIGHT, _DIAL_HEIGHT = 300, 320
_MOST_POINTS = 300
_RIGHT_OF_LINES = 104


def bytes_section(facts: Facts) -> str:
    """Where the bytes are, and what other ways would take."""
    storage = facts.storage
    if storage is None:
        return "<section><h2>Bytes</h2><p>No mask is trained yet: there is nothing to weigh.</p></section>"
    says = f"<p class=says>{escape(sentence_of_bytes(storage))}</p>"
    return (
        f'<section><h2>Bytes</h2>{says}<div class="pair">{_parts(storage)}{_growth(storage)}</div>'
        f"{_comparison(storage)}</section>"
    )


def sentence_of_bytes(storage: Storage) -> str:
    """What the bank takes, beside the nearest other ways."""
    said = f"The whole bank takes {size(storage.bytes.total)} on disk"
    if storage.per_task_bytes is None or storage.savings is None:
        return f"{said}; one float32 model takes {size(storage.alternatives.full_model)}."
    other = storage.alternatives
    return (
        f"{said} and serves {count(storage.tasks_served, 'task')}, {times(storage.savings.full_model)} less than one "
        f"model each. One more task costs {size(storage.per_task_bytes)}; a mask of its own, compressed as here, would "
        f"cost {size(other.compressed)}, {times(other.compressed / storage.per_task_bytes)} as much."
    )


def _parts(storage: Storage) -> str:
    disk = asdict(storage.bytes)
    words = {
        "masks": f"masks ({storage.masks:,})",
        "recogniser": "task classifier",
        "projection": "projection",
        "backbone": "calibration images",
        "tasks": f"tasks ({storage.stored_tasks:,})",
        "manifest": "manifest",
    }
    rows = [(words[part], float(disk[part])) for part in words if disk[part]]
    origin = "seed" if storage.pretrained is None else "digests of weights that others trained"
    rows.append((f"{storage.weights:,} weights: {origin}", 0.0))
    total, most = storage.bytes.total, max(value for _, value in rows) or 1.0
    sentence = "On disk: " + ", ".join(f"{name} {size(value)}" for name, value in rows)
    parts, y, space = [], 20.0, svg.WIDTH - svg.RIGHT - 2
    for name, value in rows:
        parts.append(svg.label(2, y, name))
        parts.append(svg.label(space, y, f"{size(value)}, {percent(value / total)}", "end", "t m"))
        parts.append(f'<rect class="g2" x="2" y="{y + 6:.0f}" width="{space - 2:.0f}" height="10" rx="2"/>')
        if value:
            parts.append(
                f'<rect class="k" x="2" y="{y + 6:.0f}" width="{max(1.0, value / most * (space - 2)):.1f}" '
                'height="10" rx="2"/>'
            )
        y += 40
    drawn = svg.chart(sentence, round(y) - 12, parts)
    numbers = table(
        "Bytes of the bank’s parts",
        ("part", "bytes", "share"),
        [(name, f"{value:,.0f}", percent(value / total)) for name, value in rows[:-1]]
        + [("total", f"{total:,}", percent(1.0))],
    )
    inside = ""
    if storage.stored_tasks:
        inside = table(
            "Bytes of a task, by part, on the average",
            ("part", "bytes"),
            [(part, f"{value / storage.stored_tasks:,.1f}") for part, value in storage.task_parts.items() if value],
        )
    return f"<div><h3>By part</h3>{figure(drawn, sentence + '.')}{folded('Numbers', numbers + inside)}</div>"


def _growth(storage: Storage) -> str:
    """Bytes of all tasks as there come more of them, on two logarithmic scales."""
    if storage.per_task_bytes is None:
        return ""
    basis = storage.tasks_served - storage.stored_tasks
    fixed = storage.bytes.total - storage.bytes.tasks
    ways = {way: value for way, value in asdict(storage.alternatives).items() if value is not None}
    last = 10 ** max(3, len(str(storage.tasks_served)))
    first = max(1, basis)
    amounts = np.unique(np.geomspace(first, last, 60).round())
    mine = fixed + np.maximum(amounts - basis, 0) * storage.per_task_bytes
    low, high = min(float(mine.min()), min(ways.values()) * first), max(ways.values()) * last
    frame = svg.Frame(
        x=svg.Axis(
            low=first,
            high=last,
            log=True,
            title="tasks served",
            ticks=tuple((value, f"{value:,.0f}") for value in svg.powers_of_ten(first, last)),
        ),
        y=svg.Axis(
            low=low,
            high=high,
            log=True,
            title="bytes of all",
            ticks=tuple((value, round_size(value)) for value in svg.powers_of_ten(low, high)),
        ),
        height=_GROWTH_HEIGHT,
        right=_RIGHT_OF_LINES,
    )
    lines = [("this bank", "lk", [frame.at(n, y) for n, y in zip(amounts, mine, strict=True)])]
    lines += [
        (short, "lm", [frame.at(n, n * ways[way]) for n in (first, last)]) for way, _, short in _WAYS if way in ways
    ]
    ends = svg.push_apart([points[-1][1] for _, _, points in lines], 13, svg.TOP, _GROWTH_HEIGHT - svg.BOTTOM)
    drawn = [svg.line(points, classes) for _, classes, points in reversed(lines)]
    drawn += [
        svg.label(svg.WIDTH - _RIGHT_OF_LINES + 5, end + 4, name, classes="t b" if classes == "lk" else "t")
        for (name, classes, _), end in zip(lines, ends, strict=True)
    ]
    now = frame.at(max(first, storage.tasks_served), max(low, storage.bytes.total))
    sentence = _sentence_of_growth(storage)
    chart = svg.chart(sentence, _GROWTH_HEIGHT, [frame.draw(), *drawn, svg.dot(now, "k")])
    return f"<div><h3>As tasks come</h3>{figure(chart, sentence)}</div>"


def _sentence_of_growth(storage: Storage) -> str:
    won = [(words, n) for way, words, _ in _WAYS if (n := storage.break_even_tasks.get(way)) is not None]
    if not won:
        return "No number of tasks makes the bank smaller than another way."
    last = max(won, key=lambda one: one[1])
    return (
        f"The dot is the bank as it is, {count(storage.tasks_served, 'task')}. It is smaller than "
        f"“{last[0]}” from {count(last[1], 'task')} on, and than each other way that it beats from fewer."
    )


def _comparison(storage: Storage) -> str:
    if storage.savings is None:
        return ""
    other, savings = asdict(storage.alternatives), asdict(storage.savings)
    mean, served = storage.per_task_bytes, storage.tasks_served
    rows = []
    for way, words, _ in _WAYS:
        if other[way] is None:
            continue
        wins = storage.break_even_tasks[way]
        ratio = times(other[way] / mean) if mean else "—"
        rows.append(
            (
                words,
                size(other[way]),
                ratio,
                size(other[way] * served),
                times(savings[way]),
                f"{wins:,}" if wins else "—",
            )
        )
    rows.append(("this bank", size(mean), "", size(storage.bytes.total), "", ""))
    heads = ("each task stored as", "one more", "ratio", f"all {served:,}", "ratio", "bank is smaller from")
    return folded("Table: beside SupSup and one model each", table("Bytes beside other ways", heads, rows))


def dial_section(facts: Facts) -> str:
    """The dial between bytes and accuracy, with the bank's tasks and masks on it."""
    tasks = facts.tasks
    masks = [row for row in facts.masks.trained if row.accuracy is not None and row.bytes]
    if not len(tasks.accuracies):
        return ""
    sizes = [*tasks.sizes_of_accuracies.tolist(), *(float(row.bytes or 1) for row in masks)]
    sizes += [float(mark.bytes) for mark in tasks.dial]
    low, high = max(1.0, min(sizes) / 1.3), max(sizes) * 1.3
    heights = [*tasks.accuracies.tolist(), *(row.accuracy for row in masks if row.accuracy is not None)]
    bottom, top = max(0.0, min(heights) - 0.02), min(1.0, max(heights) + 0.02)
    marks = tuple((float(mark.bytes), f"G {mark.granularity:,}") for mark in tasks.dial)
    powers = svg.powers_of_ten(low, high) if high > 30 * low else svg.nice_ticks(low, high, 4)
    frame = svg.Frame(
        x=svg.Axis(
            low=low,
            high=high,
            log=True,
            title="bytes of a task",
            ticks=tuple((value, round_size(value)) for value in powers),
        ),
        y=svg.Axis(
            low=bottom,
            high=top,
            title="accuracy",
            ticks=tuple((value, f"{100 * value:.3g} %") for value in svg.nice_ticks(bottom, top)),
        ),
        height=_DIAL_HEIGHT,
    )
    chosen = spread_evenly(len(tasks.accuracies), _MOST_POINTS)
    drawn = [frame.draw()]
    previous = -100.0
    for at, text in marks:
        across, down = frame.at(at, bottom)
        drawn.append(svg.line([(across, down), (across, svg.TOP)], "ld"))
        if across - previous > 36:
            drawn.append(svg.label(across, svg.TOP - 4, text, "middle", "t o b"))
            previous = across
    drawn += [svg.square(frame.at(float(row.bytes or 1), row.accuracy or 0.0), "o") for row in masks[:_MOST_POINTS]]
    drawn += [svg.dot(frame.at(float(tasks.sizes_of_accuracies[i]), float(tasks.accuracies[i])), "k") for i in chosen]
    kinds = [("dot", "k", "stored task")]
    if masks:
        kinds.append(("square", "o", "a mask, on its own task"))
    drawn.append(svg.key(kinds, _DIAL_HEIGHT + 12))
    sentence = sentence_of_dial(facts)
    chart = svg.chart(sentence, _DIAL_HEIGHT + 22, drawn)
    numbers = ""
    if tasks.dial:
        stored = [row.granularity for row in tasks.rows]
        kind = "float32" if facts.manifest.format_version == 1 else "int8"
        numbers = table(
            f"The dial: α as {kind} and nothing else beside names, checksums and signature",
            ("granularity", "coefficients", "bytes of a task", "tasks in the table that have it"),
            [
                (
                    f"{mark.granularity:,}",
                    f"{mark.coefficients:,}",
                    f"{mark.bytes:,}",
                    f"{stored.count(mark.granularity):,}",
                )
                for mark in tasks.dial
            ],
        )
    title = "The dial" if tasks.dial else "Bytes and accuracy"
    return (
        f"<section><h2>{title}</h2><p class=says>{escape(sentence)}</p>"
        f'<div class="pair"><div>{figure(chart, _UNDER_DIAL if tasks.dial else "Each dot is a task.")}</div>'
        f"<div>{numbers}</div></div></section>"
    )


_UNDER_DIAL = (
    "Each dot is a task. A line marked G is where a task with α at granularity G would stand: G groups of output "
    "channels in each layer with coefficients of their own."
)


def sentence_of_dial(facts: Facts) -> str:
    """What tasks and masks reach, and what they cost."""
    tasks = facts.tasks
    mean, typical = float(tasks.accuracies.mean()), float(np.median(tasks.sizes_of_accuracies))
    said = f"Tasks have {percent(mean)} on the average, at {size(typical)} (median)"
    masks = [row for row in facts.masks.trained if row.accuracy is not None and row.bytes]
    if masks:
        own = float(np.mean([row.accuracy for row in masks if row.accuracy is not None]))
        mask_bytes = float(np.median([row.bytes for row in masks if row.bytes]))
        said += f"; masks, each on its own task, have {percent(own)} at {size(mask_bytes)}"
    if tasks.dial:
        finest = tasks.dial[-1]
        said += f". The dial goes up to {size(float(finest.bytes))}, at granularity {finest.granularity:,}"
    return said + "."
