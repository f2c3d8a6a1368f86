"""What the ones of a mask weigh, by its type: 1 each, a sign each, or a number each (docs/format.md, Masks).

    binary  bool         {0, 1}
    signed  int8         {-1, 0, 1}: a bit a one, set for -1
    real    float32      a multiple of the layer's step from -127 to 127, never 0: a byte a one, and the step

They follow the bits of a layer in its frame, in the C order of its ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from impress_format.container.codec import BoolArray, CodecError, pack_bits
from impress_format.records.fields import MaskType

MaskArray = BoolArray | npt.NDArray[np.int8] | npt.NDArray[np.float32]

_LEVELS = 127
_STEP_BYTES = 2


def values_bytes(mask_type: MaskType, ones: int) -> int:
    """Bytes of the values of a layer with so many ones."""
    return {"binary": 0, "signed": -(-ones // 8), "real": ones + _STEP_BYTES}[mask_type]


def store_values(mask: MaskArray, mask_type: MaskType) -> bytes:
    """The values of one layer's mask; what `round_values` gives comes back as it was.

    Raises:
        CodecError: values that this type does not have.
    """
    values = mask[mask != 0]
    if mask_type == "binary":
        if not (values == 1).all():
            raise CodecError("a binary mask has other values than 0 and 1")
        return b""
    if mask_type == "signed":
        if not (np.abs(values) == 1).all():
            raise CodecError("a signed mask has other values than -1, 0 and 1")
        return pack_bits(values < 0)
    step = _step_of(values)
    levels = np.rint(values / np.float32(step)).astype(np.int8)
    return bytes(levels.tobytes()) + bytes(step.astype("<f2").tobytes())


def restore_values(bits: BoolArray, stored: bytes, mask_type: MaskType) -> MaskArray:
    """One layer's mask from its ones and what they weigh.

    Raises:
        CodecError: bytes that no writer stores.
    """
    if mask_type == "binary":
        return bits
    ones = int(np.count_nonzero(bits))
    if mask_type == "signed":
        signs = np.unpackbits(np.frombuffer(stored, dtype=np.uint8), bitorder="little")
        if signs[ones:].any():
            raise CodecError("padding bits after the last sign are set")
        signed = bits.astype(np.int8)
        signed[bits] = 1 - 2 * signs[:ones].astype(np.int8)
        return signed
    levels = np.frombuffer(stored, dtype=np.int8, count=ones)
    step = np.frombuffer(stored, dtype="<f2", offset=ones)[0].astype(np.float32)
    if not (np.isfinite(step) and step > 0):
        raise CodecError("the step of its values is not a positive number")
    if ((levels == 0) | (levels == -128)).any():
        raise CodecError("a value is outside 1 to 127 steps either way")
    real = bits.astype(np.float32)
    real[bits] = levels.astype(np.float32) * step
    return real


def round_values(mask: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A real mask with each value other than 0 at the nearest multiple of the step that is none either."""
    present = mask != 0
    values = mask[present]
    step = np.float32(_step_of(values))
    levels = np.clip(np.rint(np.abs(values) / step), 1, _LEVELS)
    rounded = np.zeros_like(mask)
    rounded[present] = np.sign(values) * levels * step
    return rounded


def _step_of(values: npt.NDArray[np.generic]) -> np.float16:
    """The float16 of which 127 are nearest to the largest value: of what was rounded with it, it is found again."""
    nearest = np.float16(np.float32(np.abs(values).max()) / _LEVELS)
    return max(nearest, np.nextafter(np.float16(0), np.float16(1)))
