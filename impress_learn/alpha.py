"""Learning a task's parts: alpha, a combination of the bank's masks (ImpressLearn, Eq. 1 and 2), a residual, a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from impress_format.weights import substream_seed
from impress_learn.basis import Basis, effective_weights, layer_columns
from impress_learn.fits import TaskFit
from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import training_forward
from impress_learn.residual import RATE, HashedResidual
from impress_learn.streams.images import Images
from impress_learn.supermask import edge_popup, finished_mask, initial_scores
from impress_learn.training import minimise

RIDGE = 0.05
"""Weight of sum (alpha - start)^2 where a task is learned from few images (`shots`), chosen in trials."""
SCORE_RATE = 0.1
"""What scores of the last layer's own mask move by, for each step of a coefficient."""


@dataclass(frozen=True, eq=False)
class Start:
    """What a task begins from, part by part; None for what it begins from by itself."""

    alpha: Tensor | None = None
    values: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Learned:
    """What a task is made of, on the CPU.

    Attributes:
        alpha: (K, columns).
        values: of the residual (count,), or None.
        mask: bool, the last layer's shape, or None.
    """

    alpha: Tensor
    values: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """What there is to learn.

    Attributes:
        granularity: groups of output channels a layer with coefficients of their own.
        residual: where its values lie, or None.
        last_ones: ones of a mask that the task has to itself in the last layer (hybrid), or None: alpha and the bank's
            masks then end before that layer.
    """

    granularity: int = 1
    residual: HashedResidual | None = None
    last_ones: int | None = None


def fit_alpha(
    backbone: Backbone,
    basis: Basis,
    train: Images,
    fit: TaskFit,
    *,
    granularity: int,
    on_step: Callable[[], None],
    start: Tensor | None = None,
    calibration: Tensor | None = None,
) -> Tensor:
    """Learn alpha alone (fit_parts)."""
    shape = Shape(granularity=granularity)
    return fit_parts(
        backbone, basis, train, fit, shape, on_step=on_step, start=Start(start), calibration=calibration
    ).alpha


def fit_parts(
    backbone: Backbone,
    basis: Basis,
    train: Images,
    fit: TaskFit,
    shape: Shape,
    *,
    on_step: Callable[[], None],
    start: Start = Start(),
    calibration: Tensor | None = None,
) -> Learned:
    """Learn alpha (K, columns) from `start`, or from 1/K, by Adam on cross-entropy + l1 * sum_i (|alpha_i|_1 - 1)^2.

    At granularity G > 1 the penalty holds each group's coefficients to norm 1, the mean over a layer's groups
    standing for the layer. With `shots` a ridge holds alpha near its start, weighed likewise. A residual's values are
    learned beside alpha, rounded in every step as they will be stored; the last layer's own mask by edge-popup.

    Args:
        calibration: the bank's images, whose statistics BatchNorm takes; None for a network without.

    Raises:
        TrainingDiverged: loss or coefficients became NaN or infinite.
    """
    forward = training_forward(backbone, calibration, fit.seed)
    device, masks, residual = train.device, len(basis), shape.residual
    combined = basis if shape.last_ones is None else basis.but_last()
    columns = layer_columns(combined, shape.granularity)
    uniform = torch.full((masks, sum(columns)), 1.0 / max(masks, 1))
    alpha = (uniform if start.alpha is None else start.alpha).clone().to(device).requires_grad_()
    values = None if residual is None else _first_values(residual, fit, start, alone=masks == 0).to(device)
    last, weight = list(backbone.weights.items())[-1]
    scores = None if shape.last_ones is None else _first_scores(weight, fit).to(device)
    parameters = [one.requires_grad_() for one in (alpha if masks else None, values, scores) if one is not None]

    def effective() -> dict[str, Tensor]:
        weights = effective_weights(combined, alpha, shape.granularity)
        if scores is not None and shape.last_ones is not None:
            weights[last] = edge_popup(scores, weight, shape.last_ones)
        if residual is None or values is None:
            return weights
        return residual.add_to(weights, backbone.weights, residual.rounded(values * RATE))

    share = torch.tensor([1.0 / groups for groups in columns for _ in range(groups)], device=device)
    begun, ridge = alpha.detach().clone(), 0.0 if fit.shots is None else RIDGE

    def penalty() -> Tensor:
        return fit.l1 * (share * (alpha.abs().sum(0) - 1.0) ** 2).sum() + ridge * (share * (alpha - begun) ** 2).sum()

    minimise(
        lambda images: forward(effective(), images),
        parameters,
        train,
        fit,
        on_step=on_step,
        penalty=penalty if fit.l1 + ridge > 0 and masks else None,
    )
    mask = None
    if scores is not None and shape.last_ones is not None:
        mask = finished_mask(scores.detach(), shape.last_ones)
    return Learned(alpha.detach().cpu(), None if values is None else (values.detach() * RATE).cpu(), mask)


def _first_values(residual: HashedResidual, fit: TaskFit, start: Start, *, alone: bool) -> Tensor:
    """What the optimiser moves: the residual's values over RATE, so that one learning rate serves all parts."""
    if start.values is not None:
        return start.values / RATE
    generator = torch.Generator().manual_seed(substream_seed(fit.seed, "residual"))
    return residual.start(generator, alone=alone) / RATE


def _first_scores(weight: Tensor, fit: TaskFit) -> Tensor:
    """Scores over SCORE_RATE: edge-popup looks at their order alone, so that their unit is free."""
    generator = torch.Generator().manual_seed(substream_seed(fit.seed, "own mask"))
    return initial_scores(weight.shape, generator) / SCORE_RATE
