"""What a bank moved the weights of a pretrained network by: a few bits a weight (docs/format.md, Projection)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from impress_format.errors import FormatError
from impress_format.parts.codes import pack_codes, unpack_codes
from impress_format.records.fields import ValueBits
from impress_format.records.network import LayerSpec

CODES, STEPS = "codes", "steps"


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredAdaptation:
    """By what the weights of some layers were moved: by (2 * code - (2^bits - 1)) * step of their output channel.

    Attributes:
        layers: the last ones before the classifier, depthwise ones passed over (BackboneSpec.adapted_layers).
        bits: of a code.
        codes: uint8, of all weights of these layers, in order.
        steps: float16, of all their output channels, in order.
    """

    layers: int
    bits: ValueBits
    codes: npt.NDArray[np.uint8]
    steps: npt.NDArray[np.float16]

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """As they are stored: the codes bit by bit, the lowest first, the last byte filled with zeros."""
        return {CODES: pack_codes(self.codes, self.bits), STEPS: self.steps.astype("<f2")}


def restore_adaptation(
    path: Path,
    tensors: Mapping[str, npt.NDArray[np.generic]],
    layers: int,
    bits: ValueBits,
    fine_tuned: Sequence[LayerSpec],
) -> StoredAdaptation:
    """What is stored in these tensors for these layers.

    Raises:
        FormatError: of other types or sizes, with a step that no writer stores, or padding bits set.
    """
    weights, channels = sum(layer.size for layer in fine_tuned), sum(layer.shape[0] for layer in fine_tuned)
    codes, steps = tensors[CODES], tensors[STEPS]
    if codes.dtype != np.uint8 or codes.shape != (-(-weights * bits // 8),):
        raise FormatError(path, f"{CODES} is {codes.dtype} {codes.shape}, expected {bits} bits of {weights:,} weights")
    sizes = steps.astype(np.float32)
    if steps.dtype != np.float16 or steps.shape != (channels,) or not np.isfinite(sizes).all() or (sizes < 0).any():
        raise FormatError(
            path, f"{STEPS} is {steps.dtype} {steps.shape}, expected {channels:,} finite float16, 0 or more"
        )
    packed, rest = codes.astype(np.uint8), weights * bits % 8
    if rest and packed[-1] >> rest:
        raise FormatError(path, f"{CODES} has padding bits set after the last value")
    return StoredAdaptation(
        layers=layers,
        bits=bits,
        codes=unpack_codes(packed, weights, bits),
        steps=steps.astype(np.float16),
    )
