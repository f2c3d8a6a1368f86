"""Alpha: what each mask of the bank weighs in a task, a number for each layer or group of channels (docs/format.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from impress_format.parts.numbers import FloatArray, NumbersError, NumberType, restore_all, rows_of, type_of
from impress_format.parts.part import Array, BankIdentity, Beside, HasValues, Part, Tensor
from impress_format.records.fields import Record, Side
from impress_format.records.network import BackboneSpec, LayerSpec


class AlphaSettings(Record, frozen=True, omit_defaults=True):
    """`granularity` is G of method.md: groups of output channels in each layer with coefficients of their own."""

    granularity: Side = 1


@dataclass(frozen=True, eq=False, slots=True)
class StoredAlpha:
    """Alpha as it is read.

    Attributes:
        values: float32 (K, columns).
        type: what it is stored in.
    """

    values: FloatArray
    type: NumberType


def alpha_columns(layers: tuple[LayerSpec, ...], granularity: int) -> tuple[int, ...]:
    """Columns of alpha each layer takes: min(G, length of the first axis) (method.md, granularity)."""
    return tuple(min(granularity, layer.shape[0]) for layer in layers)


def count_columns(backbone: BackboneSpec, granularity: int, *, but_last: bool) -> int:
    """Columns of an alpha of this granularity; none for the last layer where another part has that to itself."""
    layers = backbone.masked_layers
    return sum(alpha_columns(layers[:-1] if but_last else layers, granularity))


def coefficients_of(stored: HasValues) -> FloatArray | None:
    """Alpha of a task that was read, float32 (K, columns); None for one that weighs no mask."""
    found = ALPHA.of(stored)
    return None if found is None else found.values


def matrix_of(stored: HasValues, settings: AlphaSettings, backbone: BackboneSpec) -> FloatArray:
    """As coefficients_of; of no rows, (0, columns), for a task that weighs no mask."""
    if (found := coefficients_of(stored)) is not None:
        return found
    return np.zeros((0, count_columns(backbone, settings.granularity, but_last=False)), dtype=np.float32)


def restore_alphas(stored: Array, settings: AlphaSettings, beside: Beside) -> FloatArray:
    """Coefficients, float32 (N, K, columns), of N stored alphas of one shape.

    Raises:
        NumbersError: of another type or shape, or with a value that no writer stores.
    """
    _check_type(stored.dtype, beside)
    return restore_all(stored, _columns(settings, beside))


def _restore(stored: Array, settings: AlphaSettings, beside: Beside, _: BankIdentity) -> StoredAlpha:
    values: FloatArray = restore_alphas(stored[np.newaxis], settings, beside)[0]
    return StoredAlpha(values, type_of(stored))


def _facts(tensor: Tensor | None, settings: AlphaSettings, beside: Beside) -> Mapping[str, int]:
    masks = 0 if tensor is None else _masks(tensor, settings, beside)
    coefficients = masks * _columns(settings, beside)
    return {"coefficients": coefficients, "masks": masks, "granularity": settings.granularity}


def _masks(tensor: Tensor, settings: AlphaSettings, beside: Beside) -> int:
    _check_type(tensor.dtype, beside)
    return rows_of(tensor.dtype, tensor.shape, _columns(settings, beside))


def _columns(settings: AlphaSettings, beside: Beside) -> int:
    return count_columns(beside.backbone, settings.granularity, but_last=beside.own_last_layer)


def _check_type(dtype: np.dtype[np.generic], beside: Beside) -> None:
    if dtype == np.uint8 and beside.version == 1:
        raise NumbersError("is uint8, expected float32 or float16")


def _as_stored(values: Array) -> Array:
    """Any other type than float16 and bytes becomes float32."""
    return np.ascontiguousarray(values, dtype=None if values.dtype in (np.float16, np.uint8) else np.float32)


ALPHA: Part[AlphaSettings, StoredAlpha] = Part(
    name="alpha",
    letter="a",
    kind="weights",
    restore=_restore,
    check=lambda stored, settings, beside, _: restore_alphas(stored, settings, beside),
    facts=_facts,
    masks=_masks,
    as_stored=_as_stored,
    makes_task=True,
    since=1,
)
