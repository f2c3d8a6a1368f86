"""What the page says of tasks: what they weigh, how they lie to each other, how well they do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from impress_learn.report import svg
from impress_learn.report.facts import Facts
from impress_learn.report.maps import TaskMap
from impress_learn.report.tables import QUANTILE_HEADS, QUANTILES, Heat, beside_names, figure, folded, heat, table
from impress_learn.report.tasks import MOST_SHOWN, Weighing
from impress_learn.report.words import count, escape, percent, shorten, size, spread_evenly

_MAP_HEIGHT = 330
_MOST_NAMED = 40
"""Points of a map that have a label; of more, these are spread evenly."""
_MOST_LAYERS = 40


def tasks_section(facts: Facts) -> str:
    """Coefficients and votes of tasks, and their map."""
    if not facts.tasks.number:
        return (
            "<section><h2>Tasks</h2><p>No task is stored yet: <code>impress task add</code> learns one from images."
            "</p></section>"
        )
    return "".join(_weighed(facts, one) for one in facts.tasks.weighings) + _maps(facts)


def sentence_of_weighing(facts: Facts, weighing: Weighing) -> str:
    """Which masks tasks lean on."""
    sizes = np.nan_to_num(np.abs(weighing.by_task), nan=0.0)
    part = sizes.max(axis=1) / np.maximum(sizes.sum(axis=1), 1e-12)
    strongest = int(part.argmax())
    masks = sizes[strongest].argsort()[::-1]
    label = facts.masks.rows[int(masks[0])].label
    what = "weight" if weighing.kind == "alpha" else "share"
    even = float(np.mean(1 / np.isfinite(weighing.by_task).sum(axis=1)))
    return (
        f"In a task the mask that counts most has {percent(float(part.mean()))} of all {what}, on the average of the "
        f"rows below; evenly spread it would be {percent(even)}. The most decided is "
        f"{shorten(weighing.names[strongest], 40)}, which leans on mask {int(masks[0])} ({shorten(label, 40)})."
    )


def _weighed(facts: Facts, weighing: Weighing) -> str:
    alpha = weighing.kind == "alpha"
    labels = [row.label for row in facts.masks.rows]
    columns = labels if len(set(labels)) == len(labels) else [str(row.index) for row in facts.masks.rows]
    sentence = sentence_of_weighing(facts, weighing)
    by_task = Heat(
        caption="Mean α of each mask, over layers" if alpha else "Share of each mask in the vote",
        sentence=sentence,
        corner="task \\ mask",
        rows=weighing.names,
        columns=columns,
        values=weighing.by_task,
        middle=0.0 if alpha else None,
    )
    parts = [heat(by_task)]
    if alpha and weighing.by_layer.size:
        chosen = spread_evenly(len(weighing.by_layer), _MOST_LAYERS)
        layers = facts.manifest.backbone.masked_layers
        by_layer = Heat(
            caption=f"Mean |α| of each mask in each layer, over {count(weighing.tasks, 'task')}",
            sentence=_sentence_of_layers(facts, weighing),
            corner="layer \\ mask",
            rows=[layers[place].name for place in chosen],
            columns=columns,
            values=weighing.by_layer[chosen],
        )
        parts.append(heat(by_layer) + f"<p class=how>{escape(by_layer.sentence)}</p>")
    title = "What each mask weighs: α" if alpha else "Which masks vote"
    read = (
        f"<p class=how>{weighing.tasks:,} of the {facts.tasks.number:,} tasks were read, evenly spread; "
        f"{len(weighing.names)} have a row.</p>"
        if weighing.tasks > len(weighing.names) or facts.tasks.read < facts.tasks.number
        else ""
    )
    keys = _keys(weighing.names, columns)
    return f"<section><h2>{title}</h2><p class=says>{escape(sentence)}</p>{''.join(parts)}{keys}{read}</section>"


def _keys(*groups: Sequence[str]) -> str:
    beginnings = sorted({beginning for names in groups if (beginning := beside_names(names)[0])})
    said = " and ".join(f"{beginning}KEY" for beginning in beginnings)
    return f"<p class=how>Rows and columns are named by KEY, of {escape(said)}.</p>" if said else ""


def _sentence_of_layers(facts: Facts, weighing: Weighing) -> str:
    known = [(float(np.nanmean(row)), place) for place, row in enumerate(weighing.by_layer) if np.isfinite(row).any()]
    (largest, most), (smallest, least) = max(known), min(known)
    layers = facts.manifest.backbone.masked_layers
    return (
        f"Coefficients are largest in {layers[most].name} (|α| {largest:.2f} on the average) and smallest in "
        f"{layers[least].name} ({smallest:.2f})."
    )


def _maps(facts: Facts) -> str:
    if not facts.tasks.maps:
        return ""
    figures = "".join(_map(one) for one in facts.tasks.maps)
    read = (
        f"<p class=how>{facts.tasks.read:,} of the {facts.tasks.number:,} tasks, evenly spread.</p>"
        if facts.tasks.read < facts.tasks.number
        else ""
    )
    return f'<section><h2>Tasks as a map</h2><div class="pair">{figures}</div>{read}</section>'


def sentence_of_map(task_map: TaskMap) -> str:
    """Who is beside whom."""
    apart = task_map.points[:, np.newaxis] - task_map.points
    distances = np.hypot(apart[:, :, 0], apart[:, :, 1])
    np.fill_diagonal(distances, np.inf)
    one, other = divmod(int(distances.argmin()), len(distances))
    by = "their coefficients" if task_map.kind == "alpha" else "their signatures, which say what their images look like"
    held = task_map.held[0] + task_map.held[1]
    return (
        f"{count(len(task_map.labels), 'task')} by {by}: the two axes hold {percent(held)} of all differences. "
        f"Nearest on the map are {shorten(task_map.labels[one], 40)} and {shorten(task_map.labels[other], 40)}."
    )


def _map(task_map: TaskMap) -> str:
    points, sentence = task_map.points, sentence_of_map(task_map)
    reach = float(np.abs(points).max()) * 1.12
    half_height = (_MAP_HEIGHT - svg.TOP - svg.BOTTOM) / (svg.WIDTH - 2 * svg.RIGHT)
    # One unit is as long across as down, or else a circle of tasks would be an ellipse.
    across = max(reach, float(np.abs(points[:, 1]).max()) * 1.12 / half_height)
    frame = svg.Frame(
        x=svg.Axis(low=-across, high=across, title=f"first direction, {percent(task_map.held[0])} of the variance"),
        y=svg.Axis(
            low=-across * half_height,
            high=across * half_height,
            title=f"second, {percent(task_map.held[1])}",
        ),
        height=_MAP_HEIGHT,
        left=svg.RIGHT,
    )
    placed = [frame.at(float(x), float(y)) for x, y in points]
    named = set(spread_evenly(len(placed), _MOST_NAMED))
    short = beside_names(task_map.labels)[1]
    marks = [
        svg.dot(at, "k", 4.5 if len(placed) <= 60 else 2.5) if mask is None else svg.square(at, "o")
        for at, mask in zip(placed, task_map.masks, strict=True)
    ]
    zero = frame.at(0.0, 0.0)
    across_zero = [(svg.RIGHT, zero[1]), (svg.WIDTH - svg.RIGHT, zero[1])]
    down_zero = [(zero[0], svg.TOP), (zero[0], _MAP_HEIGHT - svg.BOTTOM)]
    axes = svg.line(across_zero, "g") + svg.line(down_zero, "g")
    texts = svg.place_labels(placed, [text if i in named else "" for i, text in enumerate(short)], _MAP_HEIGHT)
    kinds = [("dot", "k", "stored task")]
    if any(mask is not None for mask in task_map.masks):
        kinds.append(("square", "o", "task of a mask"))
    drawn = svg.chart(sentence, _MAP_HEIGHT + 22, [frame.draw(), axes, *marks, texts, svg.key(kinds, _MAP_HEIGHT + 12)])
    numbers = folded(
        "Coordinates",
        table(
            f"Points of the map by {task_map.kind}",
            ("task", "as", "first", "second"),
            [
                (
                    task_map.labels[i],
                    "stored task" if task_map.masks[i] is None else f"mask {task_map.masks[i]}",
                    *(f"{value:.3f}" for value in points[i].tolist()),
                )
                for i in spread_evenly(len(placed), _MOST_NAMED)
            ],
            texts=2,
        ),
    )
    return f"<div><h3>By {_BY[task_map.kind]}</h3>{figure(drawn, sentence)}{numbers}</div>"


_BY = {"alpha": "coefficients", "signature": "what images look like"}


def table_of_tasks(facts: Facts) -> str:
    """The tasks, or of many a sample and their quantiles."""
    rows = [
        (
            row.name,
            row.reference,
            row.parts,
            size(row.bytes),
            percent(row.accuracy),
            percent(row.train_accuracy),
            "—" if row.accuracy is None else "held-out" if row.held_out else "test",
        )
        for row in facts.tasks.rows
    ]
    heads = ("task", "reference", "parts", "bytes", "accuracy", "training images", "measured on")
    sample = f"{len(rows)} of {facts.tasks.number:,} tasks, evenly spread" if facts.tasks.number > MOST_SHOWN else ""
    caption = sample or f"The bank’s {count(facts.tasks.number, 'task')}"
    return folded(f"Table: {caption}", table(caption, heads, rows, texts=3)) + quantiles(facts)


def quantiles(facts: Facts) -> str:
    """Bytes and accuracy of all tasks, where there are more than the page has rows for."""
    if facts.tasks.number <= MOST_SHOWN:
        return ""
    heads = ("of all tasks", *QUANTILE_HEADS)
    rows = [("bytes", *(size(float(value)) for value in np.quantile(facts.tasks.bytes, QUANTILES)))]
    if len(facts.tasks.accuracies):
        rows.append(("accuracy", *(percent(float(value)) for value in np.quantile(facts.tasks.accuracies, QUANTILES))))
    return table(f"Quantiles over {facts.tasks.number:,} tasks", heads, rows)
