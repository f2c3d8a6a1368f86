"""A vote: a share for each mask of the bank, a byte each; classes are those of the masks' networks together.

Nothing of the network changes: every mask with a share answers by itself, and the answers are averaged (docs/format.md,
Vote; docs/method.md, Votes).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from impress_format.parts.numbers import FloatArray, NumbersError
from impress_format.parts.part import Array, BankIdentity, Beside, Part, Tensor

VOTE_TEMPERATURE = 3.0
"""What logits are divided by before answers are averaged (docs/format.md, Vote): a mask that is sure of a wrong class
counts for less; chosen on held-out images (docs/trials.md, Votes)."""
_MOST = 255


def store_vote(shares: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """The bytes of shares (K,), of which the largest is positive: in parts of 255 of that.

    Raises:
        ValueError: a share is negative or no number, or none is positive.
    """
    if not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
        raise ValueError("shares are 0 or more, and one of them is positive")
    stored: npt.NDArray[np.uint8] = np.round(shares / shares.max() * _MOST).astype(np.uint8)
    return stored


def restore_vote(stored: npt.NDArray[np.generic]) -> FloatArray:
    """The shares, float32 (K,), which add up to 1.

    Raises:
        NumbersError: of another type or shape, or without a largest share as a writer stores it.
    """
    check_votes(stored[np.newaxis])
    shares: FloatArray = (stored / stored.sum(dtype=np.float64)).astype(np.float32)
    return shares


def check_votes(stored: npt.NDArray[np.generic]) -> None:
    """Refuse stored votes (N, K) that are none.

    Raises:
        NumbersError: as restore_vote.
    """
    if stored.dtype != np.uint8 or stored.ndim != 2 or not stored.shape[1]:
        raise NumbersError(f"is {stored.dtype} {stored.shape[1:]}, expected a byte for each mask")
    if not (stored.max(axis=1) == _MOST).all():
        raise NumbersError(f"has no share of {_MOST}, its largest")


def _masks(tensor: Tensor, _: None, __: Beside) -> int:
    if tensor.dtype != np.uint8 or len(tensor.shape) != 1:
        raise NumbersError(f"is {tensor.dtype} {tensor.shape}, expected a byte for each mask")
    return tensor.shape[0]


def _facts(tensor: Tensor | None, settings: None, beside: Beside) -> Mapping[str, int]:
    return {"shares": 0 if tensor is None else _masks(tensor, settings, beside)}


def _restore(stored: Array, _: None, __: Beside, ___: BankIdentity) -> FloatArray:
    return restore_vote(stored)


VOTE: Part[None, FloatArray] = Part(
    name="vote",
    letter="v",
    kind="vote",
    restore=_restore,
    check=lambda stored, _, __, ___: check_votes(stored),
    facts=_facts,
    masks=_masks,
    makes_task=True,
    stands_alone=True,
)
