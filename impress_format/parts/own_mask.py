"""A mask that one task has to itself, of the last layer (hybrid; docs/format.md, Own mask): a bit a weight."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from impress_format.container.codec import BoolArray, pack_bits
from impress_format.parts.numbers import NumbersError
from impress_format.parts.part import Array, BankIdentity, Beside, Part
from impress_format.records.network import LayerSpec


def store_own_mask(mask: BoolArray) -> npt.NDArray[np.uint8]:
    """Its bytes: eight weights each, the first in the lowest bit, C order."""
    return np.frombuffer(pack_bits(mask), dtype=np.uint8)


def restore_own_mask(stored: npt.NDArray[np.generic], layer: LayerSpec) -> BoolArray:
    """The mask, in the shape of its layer.

    Raises:
        NumbersError: of another type or size, without a one, or with padding bits set.
    """
    check_own_masks(stored[np.newaxis], layer)
    bits = np.unpackbits(np.ascontiguousarray(stored).view(np.uint8), count=layer.size, bitorder="little")
    return bits.astype(np.bool_).reshape(layer.shape)


def check_own_masks(stored: npt.NDArray[np.generic], layer: LayerSpec) -> None:
    """Refuse stored masks (N, bytes) that are none.

    Raises:
        NumbersError: of another type or size, without a one, or with padding bits set.
    """
    expected = -(-layer.size // 8)
    if stored.dtype != np.uint8 or stored.shape[1:] != (expected,):
        raise NumbersError(f"is {stored.dtype} {stored.shape[1:]}, expected {expected} bytes for {layer.name}")
    rest = layer.size % 8
    if rest and (stored[:, -1].astype(np.uint8) >> rest).any():
        raise NumbersError("has padding bits set after the last weight")
    if not stored.any(axis=1).all():
        raise NumbersError("has not a single one")


def _restore(stored: Array, _: None, beside: Beside, __: BankIdentity) -> BoolArray:
    return restore_own_mask(stored, beside.backbone.masked_layers[-1])


def _check(stored: Array, _: None, beside: Beside, __: BankIdentity) -> None:
    check_own_masks(stored, beside.backbone.masked_layers[-1])


def _check_settings(_: None, beside: Beside, present: bool) -> None:
    if present and len(beside.backbone.masked_layers) < 2:
        raise NumbersError("has a mask of the last layer, and the network has no layer before it")


OWN_MASK: Part[None, BoolArray] = Part(
    name="mask",
    letter="m",
    kind="weights",
    restore=_restore,
    check=_check,
    check_settings=_check_settings,
    takes_last_layer=True,
)
