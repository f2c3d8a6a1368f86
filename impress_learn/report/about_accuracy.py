"""What the page says of accuracy: as it is stored, and with controls, found tasks and images where it was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from impress_learn.report import svg
from impress_learn.report.about_tasks import table_of_tasks
from impress_learn.report.facts import Facts
from impress_learn.report.measured import ControlRecord, FoundRecord, Measurement
from impress_learn.report.png import data_uri, palette_png
from impress_learn.report.tables import Heat, beside_names, figure, folded, heat, table
from impress_learn.report.tasks import MOST_SHOWN
from impress_learn.report.words import count, escape, percent, shorten

_ROW, _NAMES = 24, 118
_BINS, _HISTOGRAM_HEIGHT = 24, 220


def accuracy_section(facts: Facts, measured: Measurement | None) -> str:
    """Accuracies as they are stored, beside their controls where these were measured."""
    if not facts.tasks.number:
        return ""
    controls = {one.name: one for one in measured.controls} if measured else {}
    if not len(facts.tasks.accuracies):
        body = "<p>No task has an accuracy: their images have no labels.</p>"
    elif facts.tasks.number <= MOST_SHOWN:
        sentence = sentence_of_accuracy(facts, controls)
        body = f"<p class=says>{escape(sentence)}</p>{_dots(facts, controls, sentence)}"
    else:
        sentence = sentence_of_accuracy(facts, controls)
        body = f"<p class=says>{escape(sentence)}</p>{_histogram(facts)}"
    body += table_of_tasks(facts) + (_table_of_controls(measured.controls) if measured else "")
    if measured is None:
        body += (
            "<p class=how>Wrong and best masks, which task is taken for which, and images are not stored in a bank: "
            "<code>impress report</code> measures them where it is asked to, and the page keeps them.</p>"
        )
    return f"<section><h2>Accuracy</h2>{body}</section>"


def sentence_of_accuracy(facts: Facts, controls: dict[str, ControlRecord]) -> str:
    """What tasks reach, and what a mask of another task would."""
    values = facts.tasks.accuracies
    said = f"{count(len(values), 'task')} with {percent(float(values.mean()))} on the average"
    if len(values) > 1:
        said += f", from {percent(float(values.min()))} to {percent(float(values.max()))}"
    best = [one.best_mask for one in controls.values() if one.best_mask is not None]
    wrong = [one.wrong_mask for one in controls.values() if one.wrong_mask is not None]
    if best:
        said += f". The best single mask of the bank, unchanged, has {percent(float(np.mean(best)))}"
    if wrong:
        said += f", masks of other tasks {percent(float(np.mean(wrong)))} on the average"
    return said + "."


def _dots(facts: Facts, controls: dict[str, ControlRecord], sentence: str) -> str:
    """A row for each task, a dot where its accuracy is."""
    rows = [row for row in facts.tasks.rows if row.accuracy is not None]
    values = [row.accuracy or 0.0 for row in rows] + [row.train_accuracy or 1.0 for row in rows]
    for one in controls.values():
        values += [value for value in (one.wrong_mask, one.best_mask) if value is not None]
    low, high = max(0.0, min(values) - 0.03), min(1.0, max(values) + 0.02)
    height = svg.TOP + _ROW * len(rows) + svg.BOTTOM
    ticks = tuple((value, f"{100 * value:.3g} %") for value in svg.nice_ticks(low, high))
    frame = svg.Frame(
        x=svg.Axis(low=low, high=high, title="accuracy", ticks=ticks),
        y=svg.Axis(low=0.0, high=1.0, title=""),
        height=height,
        left=_NAMES,
    )
    drawn, short = [frame.draw()], beside_names([row.reference for row in rows])[1]
    for place, (row, name) in enumerate(zip(rows, short, strict=True)):
        y = svg.TOP + _ROW * (place + 0.5)
        across = [frame.at(value, 0)[0] for value in (row.accuracy, row.train_accuracy) if value is not None]
        drawn.append(svg.label(_NAMES - 8, y + 4, shorten(name, 18), "end"))
        drawn.append(svg.line([(min(across), y), (max(across), y)], "lm"))
        if (control := controls.get(row.name)) is not None:
            if control.wrong_mask is not None:
                drawn.append(_cross(frame.at(control.wrong_mask, 0)[0], y))
            if control.best_mask is not None:
                drawn.append(svg.square((frame.at(control.best_mask, 0)[0], y), "o"))
        if row.train_accuracy is not None:
            drawn.append(svg.dot((across[-1], y), "h", 4))
        drawn.append(svg.dot((across[0], y), "k"))
    kinds = [("dot", "k", "test images"), ("dot", "h", "training images")]
    if any(one.best_mask is not None for one in controls.values()):
        kinds.append(("square", "o", "best mask"))
    if any(one.wrong_mask is not None for one in controls.values()):
        kinds.append(("tick", "lx", "wrong masks"))
    drawn.append(svg.key(kinds, height + 12))
    return f'<div class="middle">{figure(svg.chart(sentence, height + 22, drawn), _UNDER_DOTS)}</div>'


_UNDER_DOTS = (
    "Accuracy as it was stored when the task was learned, on images that it did not learn from; where it was learned "
    "with images held out, on these."
)


def _cross(x: float, y: float) -> str:
    return svg.line([(x, y - 5), (x, y + 5)], "lx")


def _histogram(facts: Facts) -> str:
    """How many tasks have which accuracy."""
    values = facts.tasks.accuracies
    low, high = float(values.min()), float(values.max())
    low, high = (low - 0.01, high + 0.01) if high - low < 1e-9 else (low, high)
    numbers, edges = np.histogram(values, bins=_BINS, range=(low, high))
    most = int(numbers.max())
    frame = svg.Frame(
        x=svg.Axis(
            low=low,
            high=high,
            title="stored accuracy",
            ticks=tuple((value, f"{100 * value:.3g} %") for value in svg.nice_ticks(low, high)),
        ),
        y=svg.Axis(
            low=0.0,
            high=float(most),
            title="tasks",
            ticks=tuple((value, f"{value:,.0f}") for value in svg.nice_ticks(0.0, float(most), 4)),
        ),
        height=_HISTOGRAM_HEIGHT,
    )
    drawn = [frame.draw()]
    for number, left, right in zip(numbers.tolist(), edges, edges[1:], strict=False):
        start, top = frame.at(float(left), number)
        end, bottom = frame.at(float(right), 0)
        drawn.append(
            f'<rect class="k" x="{start + 0.5:.1f}" y="{top:.1f}" width="{max(0.5, end - start - 1):.1f}" '
            f'height="{bottom - top:.1f}"/>'
        )
    middle = float(np.median(values))
    sentence = f"Accuracies of {len(values):,} tasks: half of them have {percent(middle)} or more."
    return f'<div class="middle">{figure(svg.chart(sentence, _HISTOGRAM_HEIGHT, drawn), sentence)}</div>'


def _table_of_controls(controls: Sequence[ControlRecord]) -> str:
    rows = [
        (
            one.name,
            f"{one.samples:,}",
            percent(one.accuracy),
            percent(one.best_mask),
            "—" if one.best_index is None else str(one.best_index),
            percent(one.wrong_mask),
        )
        for one in controls
    ]
    heads = ("task", "test images", "its accuracy", "best mask", "which", "wrong masks")
    return folded("Table: controls, as measured", table("Tasks beside masks of others, on test images", heads, rows))


def found_section(measured: Measurement | None) -> str:
    """Which task was taken for which, from single images."""
    if measured is None or not measured.found:
        return ""
    found = measured.found
    sentence = sentence_of_found(measured)
    order = _columns(found)
    values = np.full((len(found), len(order)), np.nan)
    for row, one in enumerate(found):
        for task, number in one.counts:
            values[row, order.index(task)] = number / one.samples
    matrix = Heat(
        caption="Share of single images of a task (row) that were taken for each task (column), per cent",
        sentence=sentence,
        corner="task \\ found",
        rows=[one.task for one in found],
        columns=order,
        values=100 * values,
        digits=0,
    )
    return f"<section><h2>Which task is it?</h2><p class=says>{escape(sentence)}</p>{heat(matrix)}</section>"


def sentence_of_found(measured: Measurement) -> str:
    """How often the right task was found."""
    right = float(np.mean([one.right for one in measured.found]))
    worst = min(measured.found, key=lambda one: one.right)
    return (
        f"From one image, the right one of {count(measured.candidates, 'task')} is found in {percent(right)} of cases "
        f"({measured.method}); chance would be {percent(1 / max(1, measured.candidates))}. Hardest is "
        f"{shorten(worst.task, 40)}, {percent(worst.right)}."
    )


def _columns(found: Sequence[FoundRecord]) -> list[str]:
    """Tasks that were asked about, then others that were found."""
    asked = [one.task for one in found]
    others = sorted({task for one in found for task, _ in one.counts} - set(asked))
    return asked + others


def examples_section(measured: Measurement | None) -> str:
    """Images of tasks, with what was answered."""
    shown = [one for one in measured.controls if one.examples] if measured else []
    if not shown:
        return ""
    rows = []
    for control in shown:
        tiles = []
        for example in control.examples:
            good = example.label == example.answer
            words = f"✓ {example.answer}" if good else f"✗ {example.answer}, is {example.label}"
            alt = f"Image of class {example.label}, answered {example.answer}"
            address = data_uri(palette_png(example.image(), example.palette))
            tiles.append(
                f'<figure class="{"right" if good else "wrong"}"><img class="p" alt="{escape(alt)}" src="{address}">'
                f"<figcaption>{escape(words)}</figcaption></figure>"
            )
        rows.append(f'<h3>{escape(control.task)}</h3><div class="strip">{"".join(tiles)}</div>')
    says = (
        "Four test images of each task, evenly spread, and the first two others that are answered wrongly, if any are."
    )
    return f"<section><h2>Images</h2><p class=says>{says}</p>{''.join(rows)}</section>"
