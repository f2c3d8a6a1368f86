"""What the page says of masks: where they look, and which of them are alike."""

from __future__ import annotations

import numpy as np

from impress_learn.report.facts import Facts
from impress_learn.report.masks import Frames, Sharing
from impress_learn.report.tables import Heat, beside_names, folded, heat, table, two_pictures
from impress_learn.report.words import count, escape, percent, shorten, size, times

_FEW = 12
"""Pictures that are drawn large."""
_CLEARLY = 1.15
"""How many times denser than by chance masks are said to look at a part of the input."""
_LEAST_REACH = 0.25
"""How far from chance the colours of shared ones reach at least: random masks, 0.97 to 1.03 times it, are pale."""


def masks_section(facts: Facts) -> str:
    """Where masks look, the ones that they share, and the table of masks."""
    if not facts.masks.rows:
        return (
            "<section><h2>Masks</h2><p>This bank has no masks: its tasks stand on a network that others trained, and "
            "each has a head of its own.</p></section>"
        )
    parts = []
    if facts.planned_only:
        parts.append(
            f"<p class=note><strong>Incomplete:</strong> {facts.planned_only:,} of {len(facts.masks.rows):,} planned "
            "masks are not trained yet. The command that made the bank trains them when it is given again.</p>"
        )
    if facts.masks.trained:
        parts.append(_where(facts))
        if facts.masks.sharing is not None:
            parts.append(_shared(facts, facts.masks.sharing))
    else:
        parts.append(f"<section><h2>Masks</h2>{_all(facts)}</section>")
    return "".join(parts)


def sentence_of_frames(frames: Frames) -> str:
    """What the pictures say."""
    if frames.kind == "kernel":
        return (
            f"The first layer is a window of {frames.pictures.shape[1]} × {frames.pictures.shape[2]} that slides over "
            f"the image; shown is the share of ones at each of its places, {percent(frames.chance)} on the average."
        )
    said = (
        f"The densest tenth of the input’s pixels holds {percent(frames.densest)} of the first layer’s ones; of random "
        f"masks it would hold {percent(frames.by_chance)}."
    )
    return said + (" These masks look at a part of the input." if frames.densest > _CLEARLY * frames.by_chance else "")


def _where(facts: Facts) -> str:
    frames = facts.masks.frames
    if frames is None:
        return (
            "<section><h2>Where the masks look</h2><p>The first layer reads neither pixels one by one nor a window of "
            "several, so that its masks have no picture.</p>"
            f"{_all(facts)}</section>"
        )
    top = float(np.quantile(frames.pictures, 0.995)) or 1.0
    labels = [facts.masks.rows[index].label for index in frames.indices]
    beginning, short = beside_names(labels)
    if len(set(labels)) < len(labels):
        beginning, short = (
            "",
            [f"{index} {shorten(label, 24)}" for index, label in zip(frames.indices, labels, strict=True)],
        )
    tiles = []
    for index, picture, text in zip(frames.indices, frames.pictures, short, strict=True):
        row = facts.masks.rows[index]
        high = np.unravel_index(int(picture.argmax()), picture.shape)
        alt = (
            f"Mask {index}, {row.label}: share of ones from {percent(float(picture.min()))} to "
            f"{percent(float(picture.max()))}, most at row {high[0] + 1}, column {high[1] + 1}"
        )
        right = "" if row.accuracy is None else f" · {percent(row.accuracy)}"
        image = two_pictures(picture, (0.0, top), alt)
        tiles.append(f"<figure>{image}<figcaption><b>{escape(text)}</b>{right}</figcaption></figure>")
    of = "" if len(frames.indices) == len(facts.masks.trained) else f" {len(frames.indices)} of them, evenly spread."
    named = f" Below each stands its task, {escape(beginning)}KEY" if beginning else " Below each stands its task"
    own = " and the mask’s own accuracy on it" if any(row.accuracy is not None for row in facts.masks.rows) else ""
    if frames.put_back:
        own += ". Pixels that a task has in another order are shown where they were before"
    kind = "few" if len(tiles) <= _FEW else "many"
    return (
        f"<section><h2>Where the masks look</h2><p class=says>{escape(sentence_of_frames(frames))}</p>"
        f'<div class="frames {kind}">{"".join(tiles)}</div>'
        f"<p class=how>Share of ones among the weights that leave each place of the input, from 0 to "
        f"{percent(top)}, one scale for all.{escape(of)}{named}{own}.</p>"
        f"{_all(facts)}</section>"
    )


def sentence_of_sharing(facts: Facts, sharing: Sharing) -> str:
    """Which masks are alike."""
    upper = np.triu_indices(len(sharing.indices), 1)
    values = sharing.lift[upper]
    most, least = int(values.argmax()), int(values.argmin())

    def pair(place: int) -> str:
        one, other = (sharing.indices[int(side[place])] for side in upper)
        return f"{_named(facts, one)} and {_named(facts, other)}"

    if len(values) == 1:
        return f"The two masks share {times(float(values[0]))} the ones that chance would give."
    if f"{values[most]:.2f}" == f"{values[least]:.2f}":
        return f"Any two masks share {float(values.mean()):.2f} times the ones that chance would give."
    return (
        f"Two masks share {float(values.mean()):.2f} times the ones that chance would give, on the average: most "
        f"{pair(most)} ({values[most]:.2f}), least {pair(least)} ({values[least]:.2f})."
    )


def _named(facts: Facts, index: int) -> str:
    return f"{index} ({shorten(facts.masks.rows[index].label, 40)})"


def _shared(facts: Facts, sharing: Sharing) -> str:
    names = [facts.masks.rows[index].label for index in sharing.indices]
    names = names if len(set(names)) == len(names) else [str(index) for index in sharing.indices]
    sentence = sentence_of_sharing(facts, sharing)
    matrix = Heat(
        caption="Shared ones of two masks, in multiples of chance",
        sentence=sentence,
        corner="mask",
        rows=names,
        columns=names,
        values=sharing.lift,
        middle=1.0,
        reach=_LEAST_REACH,
        digits=1 if len(names) > 12 else 2,
    )
    layers = facts.manifest.backbone.masked_layers
    by_layer = table(
        "Shared ones by layer, in multiples of chance, mean over the pairs",
        ("layer", "shape", "shared"),
        [
            (layer.name, " × ".join(map(str, layer.shape)), f"{value:.2f}")
            for layer, value in zip(layers, sharing.by_layer.tolist(), strict=True)
        ],
        texts=2,
    )
    wide = by_layer if len(layers) <= 6 else folded("Shared ones by layer", by_layer)
    some = (
        ""
        if len(names) == len(facts.masks.trained)
        else f"<p class=how>{len(names)} of the {len(facts.masks.trained):,} masks, evenly spread.</p>"
    )
    return (
        f"<section><h2>What two masks share</h2><p class=says>{escape(sentence)}</p>"
        f'<div class="pair matrix">{heat(matrix)}{wide}</div>{some}</section>'
    )


def _all(facts: Facts) -> str:
    rows = facts.masks.rows
    shown = rows if len(rows) <= 200 else rows[:200]
    cells = [
        (
            str(row.index),
            row.label,
            row.sort,
            f"{row.density:g}",
            "not trained yet" if row.bytes is None else size(row.bytes),
            percent(row.accuracy),
            "" if row.accuracy is None else "held-out" if row.held_out else "test",
        )
        for row in shown
    ]
    heads = ("mask", "trained on", "kind", "density", "on disk", "accuracy", "images")
    caption = f"The bank’s {count(len(rows), 'mask')}" + (f"; the first {len(shown)}" if len(shown) < len(rows) else "")
    named = f"Table of {count(len(rows), 'mask')}"
    whole = table(caption, heads, cells, texts=3)
    return folded(named, whole)
