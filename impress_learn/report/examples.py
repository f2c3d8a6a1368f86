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


def take_examples(
    bank: Bank, names: Sequence[str], count: int, *, device: Device, data_dir: Path | None
) -> dict[str, tuple[ExampleRecord, ...]]:
    """Test images of stored tasks, spread evenly, with their class and the class that is answered; by task.

    Args:
        names: of the tasks; their data are there and have labels.
        count: images of each.

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
        some = images.subset(evenly_spread(len(images), count).to(images.device))
        weights: Effective = loaded.task_weights(item.name)
        answers = predictions(loaded.backbone.answering(item.classes.count), weights, some)
        pixels = some.pixels_of(slice(None)).permute(0, 2, 3, 1).cpu().numpy()
        found[item.name] = tuple(
            keep_image(picture, item.classes.label(label), item.classes.label(answer))
            for picture, label, answer in zip(pixels, some.labels.tolist(), answers.tolist(), strict=True)
        )
    return found
