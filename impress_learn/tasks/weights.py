"""Learning the parts of a task's weights together: alpha, a residual, a mask of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from impress_learn.masks.basis import Basis
from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import training_forward
from impress_learn.parts.alpha import trainable_alpha
from impress_learn.parts.part import Beginning, Ground, Trainable, Weights
from impress_learn.parts.table import all_parts, nothing
from impress_learn.streams.images import Images
from impress_learn.training.config import TaskTraining
from impress_learn.training.loop import minimise


def begin_parts(ground: Ground, beginning: Beginning) -> dict[str, Trainable]:
    """The parts of the weights that a task is to have, by name, ready to be learned."""
    return {
        part.format.name: part.begin(ground, beginning)
        for part in all_parts()
        if part.begin is not None and part.asked(beginning.parts)
    }


def laid_over(trainables: Sequence[Trainable], weights: Weights) -> Weights:
    """The effective weights under parts that are being learned."""
    for trainable in trainables:
        weights = trainable.add(weights)
    return weights


def train_parts(
    backbone: Backbone,
    trainables: Sequence[Trainable],
    train: Images,
    fit: TaskTraining,
    *,
    on_step: Callable[[], None],
    calibration: Tensor | None = None,
) -> None:
    """Learn parts of the weights together, by `fit` on cross-entropy and what each adds to it.

    Args:
        calibration: the bank's images, whose statistics BatchNorm takes; None for a network without.

    Raises:
        TrainingDiverged: loss or values became NaN or infinite.
    """
    forward, zeros = training_forward(backbone, calibration, fit.seed), nothing(backbone.weights)
    penalties = [one.penalty for one in trainables if one.penalty is not None]

    def penalty() -> Tensor:
        first, *others = (each() for each in penalties)
        return sum(others, first)

    minimise(
        lambda images: forward(laid_over(trainables, zeros), images),
        [parameter for one in trainables for parameter in one.parameters],
        train,
        fit,
        on_step=on_step,
        penalty=penalty if penalties else None,
    )


def fit_alpha(
    backbone: Backbone,
    basis: Basis,
    train: Images,
    fit: TaskTraining,
    *,
    granularity: int,
    on_step: Callable[[], None],
    start: Tensor | None = None,
    calibration: Tensor | None = None,
) -> Tensor:
    """Learn alpha (K, columns) alone, from `start` or from 1/K.

    Raises:
        TrainingDiverged: loss or coefficients became NaN or infinite.
    """
    alpha = trainable_alpha(basis, fit, granularity, start, "float32")
    train_parts(backbone, [alpha], train, fit, on_step=on_step, calibration=calibration)
    return alpha.learned()
