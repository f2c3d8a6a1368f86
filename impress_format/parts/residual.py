"""A residual: few values that all weights share, each weight's chosen by a hash of its place (docs/format.md).

    W_eff,i = (sum_k alpha_{k,i} M_{k,i} + v_i[h_i]) * W_i

A layer's hash is drawn from the bank's seed and takes no bytes (HashedNets, Chen et al. 2015). A value of b bits is one
of 2^b levels, symmetric about 0, in units of the layer's scale: with one bit it is the scale or its negative.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isqrt, prod

import numpy as np
import numpy.typing as npt

from impress_format.parts.codes import levels_of, pack_codes, unpack_codes
from impress_format.parts.numbers import FloatArray, NumbersError, check_row_of_bytes, read_scales
from impress_format.parts.part import Array, BankIdentity, Beside, Part, Tensor
from impress_format.records.fields import NumberOf, Record, ValueBits
from impress_format.records.network import BackboneSpec, LayerSpec
from impress_format.weights import random_words


class ResidualSettings(Record, frozen=True, omit_defaults=True):
    """`bits` are what a value takes, 0 for a task without a residual. Beside a read-out it is of the last `layers`
    layers before the classifier.
    """

    bits: ValueBits = 0
    layers: NumberOf = 0


def residual_layers(backbone: BackboneSpec, count: int) -> tuple[LayerSpec, ...]:
    """The layers that a residual is of: all that are masked, or with `count` so many before the last."""
    layers = backbone.masked_layers
    return layers[-1 - count : -1] if count else layers


def count_values(stored: int, bits: int, layers: int) -> int:
    """Values of all layers in a residual of so many bytes.

    Raises:
        NumbersError: no residual is stored so.
    """
    count = (stored - 2 * layers) * 8 // bits
    if count < layers:
        raise NumbersError(f"has {stored} bytes, expected 2 for each of {layers} layers and {bits} bits a value")
    return count


def residual_bytes(count: int, bits: int, layers: int) -> int:
    """Bytes of a residual of `count` values."""
    return count * bits // 8 + 2 * layers


def split_values(layers: Sequence[LayerSpec], count: int) -> tuple[int, ...]:
    """Values of each layer: one, and of the others in proportion to n^(3/4), n its weights, by largest remainder."""
    shares = [isqrt(isqrt(layer.size**3)) for layer in layers]
    spare, total = count - len(layers), sum(shares)
    sizes = [1 + spare * share // total for share in shares]
    remainders = sorted(range(len(layers)), key=lambda index: (-(spare * shares[index] % total), index))
    for index in remainders[: count - sum(sizes)]:
        sizes[index] += 1
    return tuple(sizes)


def hash_label(layer: LayerSpec) -> str:
    """The substream of words that a layer's hashes are."""
    return f"residual/{layer.name}"


def hash_places(seed: int, layer: LayerSpec, size: int) -> npt.NDArray[np.int64]:
    """Which of a layer's `size` values each of its weights has, in C order."""
    words = random_words(seed, hash_label(layer), -(-layer.size // 2)).astype("<u8").view("<u4")
    return (words[: layer.size].astype(np.uint64) * np.uint64(size) >> np.uint64(32)).astype(np.int64)


def lay_values(seed: int, layers: Sequence[LayerSpec], count: int) -> Iterator[tuple[LayerSpec, npt.NDArray[np.int64]]]:
    """Which of all `count` values each weight of each of these layers has, in the shape of the layer."""
    first = 0
    for layer, size in zip(layers, split_values(layers, count), strict=True):
        yield layer, (hash_places(seed, layer, size) + first).reshape(layer.shape)
        first += size


def store_residual(codes: npt.NDArray[np.uint8], scales: npt.NDArray[np.float16], bits: int) -> npt.NDArray[np.uint8]:
    """The bytes of a residual: `codes` 0 ... 2^bits - 1 of all layers one after the other, whole bytes in all."""
    packed = pack_codes(codes, bits).tobytes()
    return np.frombuffer(packed + scales.astype("<f2").tobytes(), dtype=np.uint8)


def restore_residual(stored: npt.NDArray[np.generic], bits: int, layers: Sequence[LayerSpec]) -> FloatArray:
    """The values, float32 (count,), of all layers one after the other.

    Raises:
        NumbersError: of another type or size, or with a scale that no writer stores.
    """
    check_residuals(stored[np.newaxis], bits, layers)
    packed, scales = split_residual(stored, bits, len(layers))
    count = len(packed) * 8 // bits
    each: FloatArray = np.repeat(scales, split_values(layers, count))
    values: FloatArray = levels_of(unpack_codes(packed, count, bits), bits) * each
    return values


def split_residual(stored: npt.NDArray[np.generic], bits: int, layers: int) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """The packed codes of a stored residual, and the scale of each layer, float32."""
    content = np.ascontiguousarray(stored).view(np.uint8)
    end = count_values(len(stored), bits, layers) * bits // 8
    return content[:end], read_scales(content[end:])


def check_residuals(stored: npt.NDArray[np.generic], bits: int, layers: Sequence[LayerSpec]) -> None:
    """Refuse stored residuals (N, bytes) that are none.

    Raises:
        NumbersError: of another type or size, or with a scale that no writer stores.
    """
    check_row_of_bytes(stored)
    count = count_values(stored.shape[1], bits, len(layers))
    if count > (most := sum(layer.size for layer in layers)):
        raise NumbersError(f"has {count:,} values for {most:,} weights")
    read_scales(stored[:, count * bits // 8 :])


def _restore(stored: Array, settings: ResidualSettings, beside: Beside, _: BankIdentity) -> FloatArray:
    return restore_residual(stored, settings.bits, residual_layers(beside.backbone, settings.layers))


def _check(stored: Array, settings: ResidualSettings, beside: Beside, _: BankIdentity) -> None:
    check_residuals(stored, settings.bits, residual_layers(beside.backbone, settings.layers))


def _facts(tensor: Tensor | None, settings: ResidualSettings, beside: Beside) -> Mapping[str, int]:
    layers = len(residual_layers(beside.backbone, settings.layers))
    return {"residual": 0 if tensor is None else count_values(prod(tensor.shape), settings.bits, layers)}


def _check_settings(settings: ResidualSettings, beside: Beside, present: bool) -> None:
    layers, some = len(beside.backbone.masked_layers), present and beside.reads_out
    if not (1 <= settings.layers < layers if some else settings.layers == 0):
        expected = f"1 to {layers - 1:,}" if some else "none but of a residual beside a head"
        raise NumbersError(f"says that its residual is of the last {settings.layers:,} layers, expected {expected}")


RESIDUAL: Part[ResidualSettings, FloatArray] = Part(
    name="residual",
    letter="r",
    kind="weights",
    restore=_restore,
    check=_check,
    facts=_facts,
    bits=lambda settings: settings.bits,
    check_settings=_check_settings,
    makes_task=True,
)
