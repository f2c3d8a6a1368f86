"""Alpha: a combination of the bank's masks (ImpressLearn, Eq. 1 and 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, TrainingDiverged
from impress_format.limits import MAX_SIDE
from impress_format.parts.alpha import ALPHA as FORMAT
from impress_format.parts.alpha import AlphaSettings, StoredAlpha, coefficients_of, count_columns
from impress_format.parts.numbers import FloatArray, NumberType, store
from impress_format.parts.vote import VOTE
from impress_format.tasks.file import StoredTask
from impress_format.versions import require_version
from impress_learn.parts.alpha_start import choose_start, usual_ridge
from impress_learn.parts.part import Array, Beginning, Ground, TaskPart, Trainable, Weights
from impress_learn.training.config import TaskTraining, check_number, require

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from impress_learn.masks.basis import Basis
    from impress_learn.parts.table import Parts


def trainable_alpha(
    basis: Basis,
    fit: TaskTraining,
    granularity: int,
    start: Tensor | None,
    kind: NumberType,
    *,
    ridge: Tensor | float = 0.0,
) -> Trainable:
    """Alpha (K, columns) over all masks of `basis`, from `start` or from 1/K.

    The penalty is l1 * sum_i (|alpha_i|_1 - 1)^2. At granularity G > 1 it holds each group's coefficients to norm 1,
    the mean over a layer's groups standing for the layer. A ridge holds alpha near its start, weighed likewise.

    Args:
        kind: what it is stored in.
        ridge: its weight, of all coefficients or of each mask's (K, 1); 0 for none.
    """
    import torch

    from impress_learn.masks.basis import effective_weights, layer_columns

    columns, device = layer_columns(basis, granularity), basis.device
    uniform = torch.full((len(basis), sum(columns)), 1.0 / len(basis))
    alpha = (uniform if start is None else start).clone().to(device).requires_grad_()
    share = shares_of_columns(columns, device)
    begun, hold = alpha.detach().clone(), torch.as_tensor(ridge, device=device)
    held = bool((hold > 0).any())

    def penalty() -> Tensor:
        return fit.l1 * norm_penalty(alpha, share) + (hold * share * (alpha - begun) ** 2).sum()

    def learned() -> Tensor:
        return alpha.detach().cpu()

    return Trainable(
        tensors=list(basis.shapes),
        parameters=[alpha],
        add=lambda effective: {**effective, **effective_weights(basis, alpha, granularity)},
        learned=learned,
        store=lambda: store_coefficients(learned(), kind),
        penalty=penalty if fit.l1 > 0 or held else None,
    )


def shares_of_columns(columns: Sequence[int], device: torch.device) -> Tensor:
    """What each column counts in a penalty, those of a layer 1 together."""
    import torch

    return torch.tensor([1.0 / groups for groups in columns for _ in range(groups)], device=device)


def norm_penalty(alpha: Tensor, share: Tensor) -> Tensor:
    """What holds each column of alpha (..., K, columns) to norm 1 (Eq. 2)."""
    return (share * (alpha.abs().sum(-2) - 1.0) ** 2).sum()


def store_coefficients(alpha: Tensor, kind: NumberType) -> Array:
    """Alpha (K, columns), on the CPU, as it is stored.

    Raises:
        TrainingDiverged: a coefficient is too large for this type.
    """
    try:
        return store(alpha.numpy(), kind)
    except OverflowError as error:
        raise TrainingDiverged(f"coefficients are {error}: store them as float32") from error


def _begin(ground: Ground, beginning: Beginning) -> Trainable:
    import torch

    from impress_learn.masks.basis import refine

    parts, basis, own = beginning.parts, ground.basis.first(beginning.masks), None
    if ground.own_last_layer:
        basis = basis.but_last()
    assert parts.alpha_dtype is not None
    if beginning.start is not None and (start := _start_of(beginning.start, len(basis.shapes))) is not None:
        channels = [shape[0] for shape in basis.shapes.values()]
        coarse = beginning.start.record.settings.alpha.granularity
        present = refine(torch.from_numpy(start), channels, coarse, parts.granularity)
        own = torch.zeros(beginning.masks, present.shape[1])  # 0 for masks that the stored task does not weigh
        own[: len(present)] = present
    few, chosen = beginning.few, None
    ridge: Tensor | float = 0.0 if few is None else usual_ridge(few.count)
    if few is not None and own is None and not ground.own_last_layer:
        chosen = choose_start(basis, parts.granularity, few, ground.masks)
        own, ridge = chosen.values, chosen.ridge.to(basis.device)
    trainable = trainable_alpha(basis, beginning.fit, parts.granularity, own, parts.alpha_dtype, ridge=ridge)
    return trainable if chosen is None else replace(trainable, begun_from=chosen.words)


def _start_of(stored: StoredTask, layers: int) -> FloatArray | None:
    """Coefficients (K, columns) that a stored task has, or where its masks vote, their shares in each layer."""
    if (shares := VOTE.of(stored)) is not None:
        return np.repeat(shares[:, np.newaxis], layers, axis=1)
    return coefficients_of(stored)


def _add(ground: Ground, effective: Weights, stored: StoredAlpha) -> Weights:
    import torch

    from impress_learn.masks.basis import effective_weights

    basis = ground.basis.first(len(stored.values))
    if ground.own_last_layer:
        basis = basis.but_last()
    alpha = torch.from_numpy(stored.values).to(basis.device)
    return {**effective, **effective_weights(basis, alpha, ground.settings.alpha.granularity)}


def _settle(bank: Bank, parts: Parts) -> Parts:
    check_number("granularity", parts.granularity, least=1, most=MAX_SIDE)
    if not (not parts.reads_out if parts.alpha is None else parts.alpha):
        return replace(parts, alpha=False, alpha_dtype=None)
    if not bank.manifest.masks:
        raise BankMismatch(f"{bank.path} has no mask: a task over it is a residual alone (`residual`, `alpha=False`)")
    return replace(parts, alpha=True, alpha_dtype=_choose_type(bank, parts.alpha_dtype))


def _choose_type(bank: Bank, asked: NumberType | None) -> NumberType:
    """The type alpha is stored in. int8 by default: it moves no accuracy (docs/results/alpha.md, Types of alpha).

    Raises:
        BankMismatch: a bank of format version 1 has no int8.
    """
    version = bank.manifest.format_version
    if asked == "int8":
        require_version(bank.path, version, "which stores no int8", instead="use `alpha_dtype` float16")
    return asked or ("float32" if version == 1 else "int8")


def _of_stored(stored: StoredTask) -> Mapping[str, Any]:
    alpha = FORMAT.of(stored)
    granularity = stored.record.settings.alpha.granularity
    return {"alpha": alpha is not None, "alpha_dtype": alpha and alpha.type, "granularity": granularity}


def _blank(bank: Bank, parts: Parts, _: int) -> Array:
    assert parts.alpha_dtype is not None
    columns = count_columns(bank.backbone, parts.granularity, but_last=parts.hybrid)
    return store(np.ones((len(bank.manifest.masks), columns), np.float32), parts.alpha_dtype)


def _check_start(start: StoredTask, parts: Parts, _: int) -> None:
    name, own = start.record.name, start.record.settings.alpha.granularity
    require(
        not parts.alpha or FORMAT.of(start) is None or parts.granularity % own == 0,
        f"`warm_start` {name} has `granularity` {own}: expected a multiple of it, got {parts.granularity}",
    )


ALPHA = TaskPart(
    format=FORMAT,
    fields=("alpha", "alpha_dtype", "granularity"),
    asked=lambda parts: bool(parts.alpha),
    settle=_settle,
    of_stored=_of_stored,
    blank=_blank,
    words=lambda _, masks: f"coefficients of {masks:,} masks",
    settings=lambda parts: AlphaSettings(granularity=parts.granularity),
    add=_add,
    begin=_begin,
    begins_from=lambda stored, parts, _: bool(parts.alpha) and _start_of(stored, 1) is not None,
    check_start=_check_start,
)
