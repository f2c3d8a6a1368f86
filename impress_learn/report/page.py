"""The page: one text of HTML that holds all it shows, asks nobody for anything and runs nothing."""

from __future__ import annotations

from impress_learn.report.about_accuracy import accuracy_section, examples_section, found_section
from impress_learn.report.about_bytes import bytes_section, dial_section
from impress_learn.report.about_making import making_section
from impress_learn.report.about_masks import masks_section
from impress_learn.report.about_tasks import tasks_section
from impress_learn.report.facts import Facts
from impress_learn.report.measured import Measurement, to_block
from impress_learn.report.style import sheet
from impress_learn.report.words import count, escape, percent, size, times

BEGINNING = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="generator" content="impress report">\n'
)
"""What every page of ours begins with: a file that does is replaced, any other is not."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser lets the page do: its own style, its own pictures, nothing else."""


def render(facts: Facts, measured: Measurement | None = None) -> str:
    """The page of a bank. Equal facts and measurements give equal text.

    Args:
        measured: of this bank as it is now; None where nobody measured.
    """
    or_measured = "" if measured is None else " or, where it says so, measured"
    return "".join(
        (
            BEGINNING,
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="referrer" content="no-referrer">\n',
            f"<title>{escape(facts.stem)}: a bank of masks</title>\n<style>{sheet()}</style>\n</head>\n<body>\n",
            _head(facts),
            "<main>",
            masks_section(facts),
            tasks_section(facts),
            accuracy_section(facts, measured),
            found_section(measured),
            examples_section(measured),
            dial_section(facts),
            bytes_section(facts),
            making_section(facts),
            "</main>",
            "<footer><p>Made by <code>impress report</code> from the bank’s files; this page asks no network for "
            f"anything. Accuracies are those that were stored{or_measured}.</p></footer>\n",
            "" if measured is None else to_block(measured) + "\n",
            "</body>\n</html>\n",
        )
    )


def summary(facts: Facts) -> str:
    """What the bank is, in a sentence."""
    spec, masks, tasks = facts.manifest.backbone, len(facts.masks.rows), facts.tasks.number
    stands = "pretrained" if spec.pretrained else "frozen random"
    of_masks = f"{count(masks, 'mask')} over a {stands} {spec.arch}" if masks else f"A {stands} {spec.arch}"
    stored = f"{count(tasks, 'task')} stored" + (" as combinations of them" if masks else " as heads on it")
    return f"{of_masks} of {spec.weights:,} weights; {stored if tasks else 'no task stored yet'}."


def _head(facts: Facts) -> str:
    numbers = [("masks", f"{len(facts.masks.trained):,}"), ("tasks stored", f"{facts.tasks.number:,}")]
    if facts.storage is not None:
        numbers.append(("on disk", size(facts.storage.bytes.total)))
        if facts.storage.per_task_bytes is not None:
            numbers.append(("one more task", size(facts.storage.per_task_bytes)))
        if facts.storage.savings is not None:
            numbers.append(("less than one model each", times(facts.storage.savings.full_model)))
    if len(facts.tasks.accuracies):
        numbers.append(("mean accuracy of tasks", percent(float(facts.tasks.accuracies.mean()))))
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in numbers)
    return (
        f"<header><h1>{escape(facts.stem)}</h1><p class=says>{escape(summary(facts))}</p>"
        f'<dl class="numbers">{cells}</dl></header>'
    )
