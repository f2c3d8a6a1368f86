"""Images of tasks with what is answered to them, for the page. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from impress_format.bank import Bank
from impress_learn.network.backbone import Effective
from impress_learn.progress import SILENT
from impress_learn.report.measured import ExampleRecord, keep_image
from impress_learn.running.accuracy import predictions, task_items
from impress_learn.running.device import Device, choose_device
from impress_learn.running.loaded import load_running
from impress_learn.streams.images import evenly_spread
from impress_learn.streams.reference import parse_reference

SPREAD, WRONG = 4, 2
"""Examples of a task: so many test images evenly spread, and so many that are answered wrongly."""
_MOST_ASKED = 1_000


def take_examples(
    bank: Bank, names: Sequence[str], *, device: Device, data_dir: Path | None
) -> dict[str, tuple[ExampleRecord, ...]]:
    """Test images of stored tasks with their class and the class that is answered, by task: four that are spread
    evenly, and the first two others that are answered wrongly.

    Args:
        names: of the tasks; their data are there and have labels.

    Raises:
        DataError, FormatError, BackboneMismatch, OutOfMemory.
    """
    loaded = load_running(bank, choose_device(device))
    found = {}
    for item in task_items(bank, names):
        data = loaded.stored_data(
            parse_reference(item.task), item.name, item.classes, data_dir=data_dir, remark=SILENT.remark
        )
        images = data.measured(holdout=0.0)
        asked = images.subset(evenly_spread(len(images), _MOST_ASKED).to(images.device))
        weights: Effective = loaded.task_weights(item.name)
        answers = predictions(loaded.answering(item.classes.count), weights, asked)
        spread = evenly_spread(len(asked), SPREAD).tolist()
        wrong = [place for place in (answers != asked.labels).nonzero().flatten().tolist() if place not in spread]
        chosen = spread + wrong[:WRONG]
        pixels = asked.pixels_of(slice(None))[chosen].permute(0, 2, 3, 1).cpu().numpy()
        labels, given = asked.labels.tolist(), answers.tolist()
        found[item.name] = tuple(
            keep_image(picture, item.classes.label(labels[place]), item.classes.label(given[place]))
            for place, picture in zip(chosen, pixels, strict=True)
        )
    return found
