"""The record of a task, in memory; text.py writes it in version 2, TaskRecordV1 is what version 1 wrote."""

from __future__ import annotations

from typing import ClassVar, Literal

from impress_format.limits import MAX_TASK_BYTES
from impress_format.parts.alpha import AlphaSettings
from impress_format.parts.table import Settings
from impress_format.records.fields import Digest, Record, Share, Side, TaskName, Text
from impress_format.records.training import TaskTrainingRecord

Images = Literal["test", "held-out"]
"""What an accuracy was measured on."""


def images_of(fit: TaskTrainingRecord | None) -> Images:
    """What the accuracies of a task that was learned so were measured on."""
    return "held-out" if fit is not None and fit.holdout else "test"


class TaskRecord(Record, frozen=True):
    """The record of one task.

    `basis` is the digest of the masks that alpha weighs, the first rows of the bank; so an alpha stays valid when masks
    are added, and is refused beside other masks. Version 2 stores its first half, and a record read from it has zeros
    for the rest. `fit` is None of a task that came as a packet, which does not say how it was learned. Accuracies are
    None there, and where the images have no labels to measure by. `settings` are those of its parts. `class_names` are
    those of its own classes in the order of the outputs, none where its reference or the bank tells them.
    """

    name: TaskName
    task: Text
    basis: Digest
    accuracy: Share | None
    train_accuracy: Share | None
    fit: TaskTrainingRecord | None
    settings: Settings = Settings()
    class_names: tuple[Text, ...] = ()
    digest: Digest = ""

    @property
    def images(self) -> Images:
        """What `accuracy` was measured on."""
        return images_of(self.fit)

    @property
    def unlabelled(self) -> bool:
        """Whether it was learned from images without labels, by which nothing can be measured."""
        return self.fit is not None and self.fit.unlabelled

    @property
    def holdout(self) -> float:
        """Share of the training images that was held out; 0 where that is not known."""
        return 0.0 if self.fit is None else self.fit.holdout


class TaskRecordV1(Record, frozen=True, omit_defaults=True):
    """Header of one task file of format version 1."""

    max_bytes: ClassVar[int] = MAX_TASK_BYTES

    name: TaskName
    task: Text
    basis: Digest
    accuracy: Share
    train_accuracy: Share
    fit: TaskTrainingRecord
    granularity: Side = 1
    digest: Digest = ""

    def newest(self) -> TaskRecord:
        """The same as a record in memory."""
        return TaskRecord(
            name=self.name,
            task=self.task,
            basis=self.basis,
            accuracy=self.accuracy,
            train_accuracy=self.train_accuracy,
            fit=self.fit,
            settings=Settings(alpha=AlphaSettings(granularity=self.granularity)),
            digest=self.digest,
        )


def version_1(record: TaskRecord) -> TaskRecordV1:
    """A record as version 1 writes it; what it does not know must have been looked for before."""
    assert record.fit is not None
    assert record.accuracy is not None
    assert record.train_accuracy is not None
    return TaskRecordV1(
        name=record.name,
        task=record.task,
        basis=record.basis,
        accuracy=record.accuracy,
        train_accuracy=record.train_accuracy,
        fit=record.fit,
        granularity=record.settings.alpha.granularity,
        digest=record.digest,
    )
