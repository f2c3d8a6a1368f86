"""How masks and coefficients are trained: one frozen record each, made at the edge, checked once, handed down whole."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from impress_format.errors import UsageError
from impress_format.limits import MAX_INTEGER, MAX_THREADS

if TYPE_CHECKING:
    from impress_format.records.training import MaskTrainingRecord, TaskTrainingRecord

_MASK_RATES = {"sgd": 4.0, "adam": 0.001, "rmsprop": 0.001}
_USUAL: Literal["sgd"] = "sgd"
_TRAINED_BY_SGD = ("lenet-300-100",)
_LARGE_RESIDUAL = 2048
"""Values from which on six epochs are better than three; of 464 they were worse (docs/trials.md, Byte budget)."""


@dataclass(frozen=True, kw_only=True)
class MaskTraining:
    """How a mask's scores are trained: edge-popup (method.md).

    Attributes:
        epochs: passes over the images; None for 3, or as many as make 1,000 steps where images are few.
        batch_size: images in each step.
        lr: at the start; it falls to 0 as a cosine. None for 4 (adam, rmsprop: .001).
        optimizer: None for what suits the network (`for_network`): SGD with momentum 0.9 where nobody names one.
        weight_decay: of that optimiser.
        warmup: passes in which the learning rate rises to `lr` first.
        holdout: share of the training images that is kept apart, and measured on.
        seed: what all randomness is drawn from.
        threads: that a CPU computes in; a result depends on how many, by its last bits.

    Examples:
        >>> MaskTraining(epochs=3).rate
        4.0
    """

    epochs: int | None = None
    batch_size: int = 64
    lr: float | None = None
    optimizer: Literal["sgd", "adam", "rmsprop"] | None = None
    weight_decay: float = 0.0
    warmup: int = 0
    holdout: float = 0.0
    seed: int = 0
    threads: int = 1

    @property
    def rate(self) -> float:
        """The learning rate at the start."""
        return _MASK_RATES[self.optimizer or _USUAL] if self.lr is None else self.lr

    def for_network(self, arch: str) -> MaskTraining:
        """The same, with the optimiser settled: SGD for the built-in LeNet, Adam for all others (docs/trials.md)."""
        return replace(self, optimizer=self.optimizer or (_USUAL if arch in _TRAINED_BY_SGD else "adam"))

    def record(self, images: int) -> MaskTrainingRecord:
        """What the bank keeps of it, for a task with so many training images.

        Raises:
            UsageError: the warm-up takes all epochs.
        """
        from impress_format.records.training import MaskTrainingRecord

        epochs = self.epochs or _enough(3, 1_000, images, self.batch_size)
        _check_warmup(self.warmup, epochs)
        settled = {"epochs": epochs, "lr": self.rate, "optimizer": self.optimizer or _USUAL}
        return MaskTrainingRecord(**{**asdict(self), **settled})


@dataclass(frozen=True, kw_only=True)
class TaskTraining:
    """How a task's alpha is learned: by Adam unless asked otherwise (ImpressLearn, Sec. 4).

    Attributes:
        epochs: passes over the images; None for 3 (6 for a task with a large residual), or as many as make 500 steps
            where images are few.
        batch_size: images in each step.
        lr: at the start; it falls to 0 as a cosine.
        optimizer: adam or rmsprop.
        weight_decay: of that optimiser.
        warmup: passes in which the learning rate rises to `lr` first.
        l1: weight of the term that holds each layer's coefficients to norm 1 (Eq. 2).
        shots: learn from so many images of each class only, chosen by the seed; None for all.
        holdout: share of the training images that is kept apart, and measured on.
        seed: what all randomness is drawn from.
        unlabelled: look at no label: nothing is trained, the masks vote by what the bank's task classifier says of the
            images; of `folder:PATH` all images below, whatever folders are called.
        threads: that a CPU computes in; a result depends on how many, by its last bits.

    Examples:
        >>> TaskTraining(epochs=20, shots=5).lr
        0.03
    """

    epochs: int | None = None
    batch_size: int = 128
    lr: float = 0.03
    optimizer: Literal["adam", "rmsprop"] = "adam"
    weight_decay: float = 0.0
    warmup: int = 0
    l1: float = 0.0
    shots: int | None = None
    holdout: float = 0.0
    seed: int = 0
    unlabelled: bool = False
    threads: int = 1

    @property
    def rate(self) -> float:
        """The learning rate at the start."""
        return self.lr

    def record(self, images: int, *, residual: int = 0) -> TaskTrainingRecord:
        """What the file of a task learned from so many images, with so many values of a residual, keeps of it.

        Raises:
            UsageError: the warm-up takes all epochs.
        """
        from impress_format.records.training import TaskTrainingRecord

        epochs = self.epochs or _enough(6 if residual >= _LARGE_RESIDUAL else 3, 500, images, self.batch_size)
        _check_warmup(self.warmup, epochs)
        return TaskTrainingRecord(**{**asdict(self), "epochs": epochs})


UPDATE_TRAINING = TaskTraining(lr=0.003)
"""What drift is learned with unless asked otherwise: a tenth of the rate that a new task takes."""


def mask_training(record: MaskTrainingRecord) -> MaskTraining:
    """The training config that a stored record was made from, its epochs settled."""
    return MaskTraining(**{name: getattr(record, name) for name in record.__struct_fields__})


def task_training(record: TaskTrainingRecord) -> TaskTraining:
    """The training config that a stored record was made from, its epochs settled."""
    apart = ("start", "steps", "elsewhere")
    return TaskTraining(**{name: getattr(record, name) for name in record.__struct_fields__ if name not in apart})


def check_training(fit: MaskTraining | TaskTraining) -> None:
    """Refuse settings that cannot be meant.

    Raises:
        UsageError: naming the field.
    """
    check_number("epochs", fit.epochs, least=1)
    check_number("batch_size", fit.batch_size, least=1)
    require(fit.rate > 0 and math.isfinite(fit.rate), f"`lr` {fit.rate}: expected a positive number")
    require(0.0 <= fit.weight_decay < math.inf, f"`weight_decay` {fit.weight_decay}: expected 0 or more")
    check_number("warmup", fit.warmup, least=0)
    check_holdout(fit.holdout)
    check_seed(fit.seed)
    check_number("threads", fit.threads, least=1, most=MAX_THREADS)
    if isinstance(fit, TaskTraining):
        require(0.0 <= fit.l1 < math.inf, f"`l1` {fit.l1}: expected 0 or more")
        check_number("shots", fit.shots, least=1)
        require(
            fit.shots is None or not fit.unlabelled,
            f"`shots` {fit.shots}: of each class, which nobody knows beside `unlabelled`: leave one of them out",
        )


def check_seed(seed: int) -> None:
    """Refuse a seed that no file could keep.

    Raises:
        UsageError: it is out of range.
    """
    require(0 <= seed <= MAX_INTEGER, f"`seed` {seed}: expected 0 to {MAX_INTEGER}")


def check_number(name: str, value: int | None, *, least: int, most: int = MAX_INTEGER) -> None:
    """Refuse a whole number out of its range; None is no number.

    Args:
        name: the setting's field.

    Raises:
        UsageError: naming the setting and its limit.
    """
    if value is not None:
        require(value >= least, f"`{name}` {value}: expected " + (f"at least {least}" if least else "0 or more"))
        require(value <= most, f"`{name}` {value}: expected at most {most:,}")


def check_holdout(holdout: float) -> None:
    """Refuse a share of held-out images that cannot be meant.

    Raises:
        UsageError: it is below 0, 1 or more, or no number.
    """
    require(0.0 <= holdout < 1.0, f"`holdout` {holdout}: expected a number from 0 to below 1")


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in one pass; what is left over waits for another epoch's order. Few images are one batch."""
    return max(1, images // batch_size)


def require(condition: bool, message: str) -> None:
    """Raises UsageError with the message unless the condition holds."""
    if not condition:
        raise UsageError(message)


def _check_warmup(warmup: int, epochs: int) -> None:
    require(warmup < epochs, f"`warmup` {warmup}: expected fewer than the {epochs} epochs in all")


def _enough(epochs: int, steps: int, images: int, batch_size: int) -> int:
    return max(epochs, math.ceil(steps / steps_per_epoch(images, batch_size)))
