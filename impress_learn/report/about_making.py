"""What the page says of where a bank comes from, and how it is used."""

from __future__ import annotations

import shlex

from impress_learn.report.facts import Facts
from impress_learn.report.tables import folded, table
from impress_learn.report.words import count, escape, percent, shorten

_MOST_CLASSES = 12
_MOST_PLANS = 20


def making_section(facts: Facts) -> str:
    """Provenance, layers, and lines that load the bank."""
    rows = _made(facts)
    layers = [
        (layer.name, " × ".join(map(str, layer.shape)), f"{layer.size:,}", "yes" if layer.masked else "no")
        for layer in facts.manifest.backbone.layers
    ]
    named = f"Table of {count(len(layers), 'layer')}"
    whole = table("Layers of the network that are drawn from the seed or masked", _LAYER_HEADS, layers, texts=2)
    return (
        f"<section><h2>Where it comes from</h2>{table('Provenance', ('what', 'as stored'), rows, texts=2, hidden=True)}"
        f"{folded(named, whole)}</section>"
        f"<section><h2>Use it</h2><p>On the command line:</p><pre tabindex=0>{_block(_commands(facts))}</pre>"
        f"<p>In Python:</p><pre tabindex=0>{_block(_python(facts))}</pre></section>"
    )


_LAYER_HEADS = ("layer", "shape", "weights", "masked")


def _block(lines: str) -> str:
    return "\n".join(map(escape, lines.split("\n")))


def _made(facts: Facts) -> list[tuple[str, str]]:
    manifest = facts.manifest
    spec = manifest.backbone
    size = " × ".join(map(str, spec.input_shape))
    rows = [
        ("network", f"{spec.arch}, {spec.weights:,} maskable weights, input {size}, {count(spec.classes, 'output')}"),
        ("weights", _weights(facts)),
        ("SHA-256 of the weights", spec.digest),
        ("format version", str(manifest.format_version)),
    ]
    if manifest.made_with is not None:
        made = manifest.made_with
        rows.append(("made with", f"impress {made.impress}, torch {made.torch}, timm {made.timm}, NumPy {made.numpy}"))
    if (theirs := spec.pretrained) is not None:
        rows.append(("pretrained weights", f"{theirs.address}, identity {theirs.identity}"))
        rows.append(("their licence", theirs.licence or "not recorded"))
        if theirs.origin:
            rows.append(("their origin", theirs.origin))
    if facts.projection is not None:
        tasks, epochs, directions = facts.projection
        moved = f", the network moved towards them in {count(epochs, 'epoch')}" if epochs else ""
        rows.append(("projection", f"{count(directions, 'direction')}, made of {_listed(tasks)}{moved}"))
    if (view := manifest.preprocess) is not None:
        height, width = view.size
        cut = "" if view.crop is None else f", central {percent(view.crop)}"
        both = ", each with its mirror image" if view.mirror else ""
        rows.append(("images", f"{view.mode}, {height} × {width}, {view.interpolation}{cut}{both}"))
    if manifest.class_names is not None:
        rows.append(("classes", _listed(manifest.class_names)))
    rows += [("masks trained by", words) for words in _trainings(facts)]
    return rows


def _weights(facts: Facts) -> str:
    spec = facts.manifest.backbone
    if spec.pretrained is not None:
        return f"those that others trained; the last layer {spec.init}, drawn from seed {spec.seed}"
    return f"{spec.init}, drawn from seed {spec.seed}; none is stored"


def _trainings(facts: Facts) -> list[str]:
    """What masks were trained with, each different setting once."""
    found: dict[str, int] = {}
    for plan in facts.manifest.masks:
        fit = plan.fit
        words = f"{plan.sort}, density {plan.density:g}"
        if fit is not None:
            words += f", {count(fit.epochs, 'epoch')}, batches of {fit.batch_size}, rate {fit.lr:g}, {fit.optimizer}"
            words += f", {percent(fit.holdout)} held out" if fit.holdout else ""
        found[words] = found.get(words, 0) + 1
    shown = [f"{count(number, 'mask')}: {words}" for words, number in list(found.items())[:_MOST_PLANS]]
    return shown + ([f"{len(found) - _MOST_PLANS:,} more settings"] if len(found) > _MOST_PLANS else [])


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(shorten(name, 60) for name in names[:_MOST_CLASSES])
    return shown if len(names) <= _MOST_CLASSES else f"{shown} and {len(names) - _MOST_CLASSES:,} more"


def _commands(facts: Facts) -> str:
    name = shlex.quote(facts.name)
    lines = [f"impress bank verify {name}", f"impress stats {name}"]
    if facts.tasks.rows:
        lines.append(f"impress infer {name} IMAGE...")
    lines.append(f"impress task add {name} {'folder:PATH' if facts.manifest.backbone.pretrained else 'STREAM/KEY'}")
    return "\n".join(lines)


def _python(facts: Facts) -> str:
    lines = ["from impress_learn import load_bank", "", f"loaded = load_bank({facts.name!r})"]
    if facts.tasks.rows and facts.manifest.format_version > 1:
        lines.append(f"print(loaded.predict('image.png', {facts.tasks.rows[0].name!r}).label)")
    return "\n".join(lines)
