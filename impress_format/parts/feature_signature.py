"""A signature in a bank with a projection: a linear form of projected features (docs/format.md, Signatures).

The task logit of an image with projected features p is

    log sum_c exp(logits_c) + weight . (p_1, ..., p_d) + bias,        d = min(112, D)

the logits being those of the task's head on the network that all heads share; without a head the first term is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from impress_format.parts.codes import levels_of, pack_codes
from impress_format.parts.numbers import FloatArray, NumbersError
from impress_format.records.fields import SIGNATURE_BYTES, TAG_BYTES

BITS: Final = 4
_START = TAG_BYTES + 6
"""Bytes of a signature before its weights: tag, scale, bias, deviation."""
_LARGEST = float(np.finfo(np.float16).max)
MOST_WEIGHTS = 8 * (SIGNATURE_BYTES - _START) // BITS


@dataclass(frozen=True, eq=False)
class StoredFeatureSignatures:
    """Linear forms of T tasks.

    Attributes:
        weight: float32 (T, d).
        bias: float32 (T,).
        deviation: float32 (T,), of the task logit of the task's own single images.
    """

    weight: FloatArray
    bias: FloatArray
    deviation: FloatArray


def count_weights(directions: int) -> int:
    """d, of a projection of so many directions."""
    return min(MOST_WEIGHTS, directions)


def store_feature_signature(
    tag: bytes, codes: npt.NDArray[np.uint8], scale: float, bias: float, deviation: float
) -> bytes:
    """A signature of `codes` 0 ... 15 (d,): each is worth (2 code - 15) times `scale`; numbers become float16."""
    padded = np.zeros(MOST_WEIGHTS, dtype=np.uint8)
    padded[: len(codes)] = codes
    numbers = np.clip([scale, bias, deviation], -_LARGEST, _LARGEST).astype("<f2")
    return tag + numbers.tobytes() + pack_codes(padded, BITS).tobytes()


def restore_feature_signatures(signatures: npt.NDArray[np.uint8], directions: int) -> StoredFeatureSignatures:
    """What T signatures (T, 64) say, over a projection of so many directions."""
    scale, bias, deviation = _numbers(signatures).T
    levels = levels_of(_codes(signatures)[:, : count_weights(directions)], BITS)
    return StoredFeatureSignatures(levels * scale[:, np.newaxis], bias, deviation)


def check_feature_signatures(signatures: npt.NDArray[np.uint8], directions: int) -> None:
    """Refuse signatures (T, 64) that no writer stores.

    Raises:
        NumbersError: a number is not finite, a scale or a deviation negative, or a weight that there is none of is set.
    """
    numbers = _numbers(signatures)
    if not (np.isfinite(numbers).all() and (numbers[:, [0, 2]] >= 0).all()):
        raise NumbersError("holds a scale or a deviation that is negative, or a number that is NaN or infinite")
    if _codes(signatures)[:, count_weights(directions) :].any():
        raise NumbersError(f"has weights for more than the {directions:,} directions of the bank's projection")


def _numbers(signatures: npt.NDArray[np.uint8]) -> FloatArray:
    """Scale, bias and deviation: (T, 3)."""
    numbers: FloatArray = np.ascontiguousarray(signatures[:, TAG_BYTES:_START]).view("<f2").astype(np.float32)
    return numbers


def _codes(signatures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Codes (T, 112), lower half of a byte first."""
    packed = signatures[:, _START:]
    return np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)
