"""Learning alpha: a new task as a linear combination of the bank's masks (ImpressLearn, Eq. 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from impress_learn.basis import Basis, effective_weights, layer_columns
from impress_learn.fits import TaskFit
from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import check_batch_size
from impress_learn.streams.images import Images
from impress_learn.training import minimise


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
    """Learn alpha (K, columns) from `start`, or from 1/K, by Adam on cross-entropy + l1 * sum_i (|alpha_i|_1 - 1)^2.

    At granularity G > 1 the penalty holds each group's coefficients to norm 1, the mean over a layer's groups
    standing for the layer.

    Raises:
        TrainingDiverged: loss or coefficients became NaN or infinite.
        UsageError: batches of one image for a network with BatchNorm.
    """
    check_batch_size(backbone, min(fit.batch_size, len(train)))
    columns = layer_columns(backbone, granularity)
    uniform = torch.full((len(basis), sum(columns)), 1.0 / len(basis))
    alpha = (uniform if start is None else start).clone().to(train.device).requires_grad_()
    share = torch.tensor([1.0 / groups for groups in columns for _ in range(groups)], device=train.device)

    def penalty() -> Tensor:
        return fit.l1 * (share * (alpha.abs().sum(0) - 1.0) ** 2).sum()

    minimise(
        lambda images: backbone(effective_weights(basis, alpha, granularity), images),
        [alpha],
        train,
        fit,
        on_step=on_step,
        penalty=penalty if fit.l1 > 0 else None,
    )
    return alpha.detach().cpu()
