"""An exported file is loaded again, as who gets it will, and held to what the bank answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from impress_format.errors import ExportFailed

SAME_KERNELS, OTHER_KERNELS = 1e-4, 1e-3
"""How far logits may be apart, of the largest, by rounding: by torch again (1.5e-6 were seen), by onnx (4.5e-5)."""
_ROUNDING, _MOST = 4.0, 0.1
"""A network may enlarge rounding: logits that are as near to those in float64 as the bank's own are right too, up to as
many times as far, and never farther apart than this (repghostnet_050 at 32 pixels: 1 % by rounding alone)."""
_FIRST = 1
"""Images of the first batch; the rest are another, so that a graph that is made for one size of batch is found out."""


def check_loaded(
    load: Callable[[Path], nn.Module], file: Path, images: Tensor, expected: Tensor, exact: Callable[[], Tensor]
) -> float:
    """Load a file, and say how far the logits of the network are from the bank's, of the largest.

    Args:
        load: file -> the plain network with its tensors.
        images: (batch, *input_shape), normalised.
        expected: the bank's logits (batch, classes) of these.
        exact: computes them in float64.

    Raises:
        ExportFailed: it cannot be loaded, or the logits are apart or not finite.
    """
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
            warnings.simplefilter("ignore")
            found = load(file)(images)
    except Exception as error:
        raise ExportFailed(f"the exported file cannot be loaded, so none was left: {error}") from error
    return _apart(np.asarray(found), expected, SAME_KERNELS, exact)


def check_module(net: nn.Module, images: Tensor, expected: Tensor, exact: Callable[[], Tensor]) -> None:
    """As `check_loaded`, for a network in memory.

    Raises:
        ExportFailed: it cannot be called, or the logits are apart or not finite.
    """
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
            warnings.simplefilter("ignore")
            found = net(images)
    except Exception as error:  # every architecture has its own way to refuse
        raise ExportFailed(f"the plain network cannot be called: {error}") from error
    _apart(np.asarray(found), expected, SAME_KERNELS, exact, "there is none")


def check_graph(file: Path, images: Tensor, expected: Tensor, exact: Callable[[], Tensor]) -> float:
    """As `check_loaded`, for an ONNX graph by the reference evaluator of the package onnx.

    Raises:
        ExportFailed: the graph cannot be evaluated, or the logits are apart or not finite.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            evaluator = ReferenceEvaluator(onnx.load(file))
            batches: list[Any] = [
                evaluator.run(["logits"], {"images": batch.numpy()})
                for batch in images.split([_FIRST, len(images) - _FIRST])
            ]
    except Exception as error:
        raise ExportFailed(f"the exported graph cannot be evaluated, so no file was left: {error}") from error
    return _apart(np.concatenate([logits for (logits,) in batches]), expected, OTHER_KERNELS, exact)


def _apart(
    found: np.ndarray[Any, Any],
    expected: Tensor,
    tolerance: float,
    exact: Callable[[], Tensor],
    left: str = "no file was left",
) -> float:
    bank = expected.numpy()
    if not np.isfinite(bank).all():
        raise ExportFailed("the bank's own logits of this task are not finite, so nothing was exported")
    if found.shape != bank.shape:
        raise ExportFailed(f"the exported network gives logits of shape {found.shape}, the bank {bank.shape}")
    largest = float(np.abs(bank).max()) or 1.0

    def difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
        return float(np.abs(one - other).max()) / largest

    apart = difference(found, bank)
    if not apart <= tolerance:
        precise = _computed(exact)
        rounding = difference(bank, precise)
        if not (apart <= _MOST and difference(found, precise) <= _ROUNDING * rounding):
            raise ExportFailed(
                f"the exported network does not answer as the bank does: logits are {apart:.2%} of the largest apart, "
                f"by rounding {rounding:.2%} of it, so {left}. Please report it with the network's name"
            )
    return apart


def _computed(exact: Callable[[], Tensor]) -> np.ndarray[Any, Any]:
    """Logits in float64; of a network that cannot be computed so, none that anything is near to."""
    try:
        return exact().numpy()
    except Exception:  # every architecture has its own way to refuse
        return np.array(np.nan)
