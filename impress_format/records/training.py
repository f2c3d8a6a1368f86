"""Records of trainings: how a mask and how a task was learned."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from impress_format.records.fields import (
    TEXT_OR_NONE,
    Count,
    Digest,
    Holdout,
    LearningRate,
    Optimizer,
    Record,
    Release,
    Seed,
    Steps,
    Text,
    Threads,
    Warmup,
    WeightDecay,
)


class Elsewhere(Record, frozen=True):
    """What a mask or a task was computed with by a worker that has not what the command has that asked for it.

    `cpu` names the processor's maker and the instructions that torch computes with there: `GenuineIntel AVX2`.
    `gpu` names the GPU; it is empty where none was used.
    """

    impress: Release
    torch: Release
    timm: Release
    numpy: Release
    pillow: Release
    cpu: Text
    gpu: Annotated[str, Meta(pattern=TEXT_OR_NONE, max_length=100)]


class MaskTrainingRecord(Record, frozen=True, omit_defaults=True):
    """How a mask was trained; enough to train it again. What has a default is left out of the file where it holds."""

    epochs: Count
    batch_size: Count
    lr: LearningRate
    seed: Seed
    holdout: Holdout
    optimizer: Optimizer = "sgd"
    weight_decay: WeightDecay = 0.0
    warmup: Warmup = 0
    threads: Threads = 1


class TaskTrainingRecord(Record, frozen=True, omit_defaults=True):
    """How an alpha was learned. Defaults are left out of the file, where every byte counts.

    `start` is the digest of the task file whose alpha this one went on from (`task update`), null if from 1/K.
    `unlabelled` says that no label of the images was looked at. `steps` is not 0 for a task that was learned with many
    others: so many steps, twice as large, in place of its epochs. Sums in another number of
    `threads` end in other last bits.
    """

    epochs: Count
    lr: LearningRate
    seed: Seed = 0
    batch_size: Count = 128
    l1: Annotated[float, Meta(ge=0.0)] = 0.0
    holdout: Holdout = 0.0
    shots: Count | None = None
    start: Digest | None = None
    optimizer: Literal["adam", "rmsprop"] = "adam"
    weight_decay: WeightDecay = 0.0
    warmup: Warmup = 0
    unlabelled: bool = False
    steps: Steps = 0
    threads: Threads = 1
    elsewhere: Elsewhere | None = None

    @property
    def is_of_version_1(self) -> bool:
        """Whether format version 1 can say it: learned by plain Adam, from labels, alone."""
        said = (self.optimizer, self.weight_decay, self.warmup, self.unlabelled, self.steps, self.threads)
        return said == ("adam", 0.0, 0, False, 0, 1) and self.elsewhere is None
