"""Learning a task's parts: alpha, a combination of the bank's masks (ImpressLearn, Eq. 1 and 2), and a residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from impress_format.weights import substream_seed
from impress_learn.basis import Basis, effective_weights, layer_columns
from impress_learn.fits import TaskFit
from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import check_batch_size
from impress_learn.residual import RATE, HashedResidual
from impress_learn.streams.images import Images
from impress_learn.training import minimise

RIDGE = 0.05
"""Weight of sum (alpha - start)^2 where a task is learned from few images (`shots`), chosen in trials."""


@dataclass(frozen=True, eq=False)
class Start:
    """What a task begins from, part by part; None for what it begins from by itself."""

    alpha: Tensor | None = None
    values: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Learned:
    """What a task is made of, on the CPU: alpha (K, columns), and the residual's values (count,), or None."""

    alpha: Tensor
    values: Tensor | None = None


def fit_alpha(
    backbone: Backbone,
    basis: Basis,
    train: Images,
    fit: TaskFit,
    *,
    granularity: int,
    on_step: Callable[[], None],
    start: Tensor | None = None,
) -> Tensor:
    """Learn alpha alone (fit_parts)."""
    begun = Start(start)
    return fit_parts(backbone, basis, train, fit, granularity=granularity, on_step=on_step, start=begun).alpha


def fit_parts(
    backbone: Backbone,
    basis: Basis,
    train: Images,
    fit: TaskFit,
    *,
    granularity: int,
    on_step: Callable[[], None],
    residual: HashedResidual | None = None,
    start: Start = Start(),
) -> Learned:
    """Learn alpha (K, columns) from `start`, or from 1/K, by Adam on cross-entropy + l1 * sum_i (|alpha_i|_1 - 1)^2.

    At granularity G > 1 the penalty holds each group's coefficients to norm 1, the mean over a layer's groups
    standing for the layer. With `shots` a ridge holds alpha near its start, weighed likewise. A residual's values are
    learned beside alpha, rounded in every step as they will be stored.

    Raises:
        TrainingDiverged: loss or coefficients became NaN or infinite.
        UsageError: batches of one image for a network with BatchNorm.
    """
    check_batch_size(backbone, min(fit.batch_size, len(train)))
    columns = layer_columns(backbone, granularity)
    masks = len(basis)
    uniform = torch.full((masks, sum(columns)), 1.0 / max(masks, 1))
    alpha = (uniform if start.alpha is None else start.alpha).clone().to(train.device).requires_grad_()
    share = torch.tensor([1.0 / groups for groups in columns for _ in range(groups)], device=train.device)
    values = _first_values(residual, fit, start, alone=masks == 0, device=train.device)
    parameters = [alpha] if masks else []
    if values is not None:
        parameters.append(values)

    def effective() -> dict[str, Tensor]:
        combined = effective_weights(basis, alpha, granularity)
        if residual is None or values is None:
            return combined
        return residual.add_to(combined, backbone.weights, residual.rounded(values * RATE))

    begun, ridge = alpha.detach().clone(), 0.0 if fit.shots is None else RIDGE

    def penalty() -> Tensor:
        return fit.l1 * (share * (alpha.abs().sum(0) - 1.0) ** 2).sum() + ridge * (share * (alpha - begun) ** 2).sum()

    minimise(
        lambda images: backbone(effective(), images),
        parameters,
        train,
        fit,
        on_step=on_step,
        penalty=penalty if fit.l1 + ridge > 0 and masks else None,
    )
    return Learned(alpha.detach().cpu(), None if values is None else (values.detach() * RATE).cpu())


def _first_values(
    residual: HashedResidual | None, fit: TaskFit, start: Start, *, alone: bool, device: torch.device
) -> Tensor | None:
    """What the optimiser moves: the residual's values over RATE, so that one learning rate serves both parts."""
    if residual is None:
        return None
    if start.values is not None:
        values = start.values
    else:
        generator = torch.Generator().manual_seed(substream_seed(fit.seed, "residual"))
        values = residual.start(generator, alone=alone)
    return (values / RATE).to(device).requires_grad_()
