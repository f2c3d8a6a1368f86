"""A torch Dataset of one's own: `dataset:NAME`, a task whose images no one but its owner has (jobs/add_dataset.py)."""

from __future__ import annotations

from impress_format.errors import DataError
from impress_learn.streams.augment import shift
from impress_learn.streams.jitter import jitter
from impress_learn.streams.stream import DataSet, Key, Stream


def _refuse(name: Key) -> DataSet:
    """Raises DataError: a reference is all that is stored, and it cannot be read."""
    raise DataError(
        f"dataset:{name} was learned from a torch Dataset in Python, or came as a packet: its images are not stored. "
        "Measure it there, by `load_bank(BANK).accuracy(TASK, dataset)`, and name the other tasks here"
    )


DATASET = Stream(
    name="dataset",
    summary="a torch Dataset of your own, learned in Python: impress_learn.add_dataset",
    keys=None,
    data_set=_refuse,
    input_shape=None,
    classes=None,
    names_by_data=True,
    needs="the Dataset",
    augment=shift,
    jitter=jitter,
)
