"""What masks say by themselves: where they look, and the ones that two of them share beside chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.disk.files import file_size
from impress_format.errors import InvalidReference
from impress_format.masks.mask_values import MaskArray
from impress_format.records.network import BackboneSpec
from impress_learn.report.words import spread_evenly
from impress_learn.streams.permuted import permute, put_back
from impress_learn.streams.reference import parse_reference
from impress_learn.streams.stream import Key

MOST_MASKS = 60
"""Masks that are decoded and compared; of more, these are spread evenly over the bank."""
MOST_SHOWN = 24
"""Pictures of masks on the page, likewise."""
_MOST_NUMBERS = 1 << 28
"""Weights of all masks that are decoded: ten masks of a network of 25 million weights, some seconds."""
_MEAN_OF_HIGHEST_TENTH = 1.755
"""The mean of a standard normal variable that is in its highest tenth: the density at 1.2816, over 0.1."""
DENSEST = 0.1
"""The share of the inputs that a sentence looks at."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskRow:
    """One mask as the table has it; `bytes` and `accuracy` are None for one that is planned and not trained yet."""

    index: int
    label: str
    sort: str
    density: float
    bytes: int | None
    accuracy: float | None
    held_out: bool


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Frames:
    """Where masks look.

    Attributes:
        kind: `input` where the first layer reads pixels one by one, else `kernel`, a window that slides over them.
        indices: of the masks.
        pictures: share of ones at each place of the input, float64 (masks, height, width), mean over its channels.
        put_back: how many masks are of permuted pixels, which are shown where they were before.
        chance: share of ones of the whole layer, mean over the masks.
        densest: the share of the layer's ones that the densest tenth of the places have, mean over the trained masks,
            or where there are none, over the random ones.
        by_chance: the same of masks that are drawn at random, about: the densest tenth is chosen by looking.
    """

    kind: str
    indices: tuple[int, ...]
    pictures: FloatArray
    put_back: int
    chance: float
    densest: float
    by_chance: float


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Sharing:
    """Ones that two masks have in common, in multiples of what independent masks of these densities would.

    Attributes:
        indices: of the masks.
        lift: float64 (masks, masks), NaN on the diagonal.
        by_layer: the same within one layer, mean over all pairs, float64 (layers,).
    """

    indices: tuple[int, ...]
    lift: FloatArray
    by_layer: FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskFacts:
    """What is known of the masks of a bank.

    Attributes:
        rows: one for each planned mask.
        frames: None where there is no mask, or the first layer has no picture.
        sharing: None for fewer than two masks.
    """

    rows: tuple[MaskRow, ...]
    frames: Frames | None
    sharing: Sharing | None

    @property
    def trained(self) -> tuple[MaskRow, ...]:
        return tuple(row for row in self.rows if row.bytes is not None)


def gather_masks(bank: Bank) -> MaskFacts:
    """Read the masks of a bank: all their records, and the ones of at most MOST_MASKS.

    Raises:
        FormatError: a file is damaged.
        StorageError: a folder may not be read.
    """
    missing = set(bank.missing_masks())
    rows = []
    for index, plan in enumerate(bank.manifest.masks):
        there = index not in missing
        rows.append(
            MaskRow(
                index=index,
                label=plan.label,
                sort=plan.sort,
                density=plan.density,
                bytes=file_size(bank.mask_path(index)) if there else None,
                accuracy=bank.read_mask_record(index).accuracy if there else None,
                held_out=bool(plan.fit and plan.fit.holdout),
            )
        )
    trained = [row.index for row in rows if row.bytes is not None]
    chosen = [trained[place] for place in spread_evenly(len(trained), _most_masks(bank.backbone))]
    layers, plans = bank.backbone.masked_layers, bank.manifest.masks
    ones: list[npt.NDArray[np.uint8]] = []
    pictures, densest, chances, permuted = [], [], [], list[bool]()
    for index in chosen:
        masks = bank.read_mask(index)[1]
        ones.append(np.concatenate([np.packbits(masks[layer.name] != 0) for layer in layers]))
        if (picture := picture_of(masks[layers[0].name], bank.backbone)) is not None:
            order = _permuted_by(rows[index].label) if len(layers[0].shape) == 2 else None
            permuted.append(order is not None)
            pictures.append(picture if order is None else put_back(picture, order))
            densest.append(share_of_densest(picture))
            chances.append(np.count_nonzero(masks[layers[0].name]) / layers[0].size)
    frames = None
    if pictures:
        shown = spread_evenly(len(chosen), MOST_SHOWN)
        frames = Frames(
            kind="input" if len(layers[0].shape) == 2 else "kernel",
            indices=tuple(chosen[place] for place in shown),
            pictures=np.stack([pictures[place] for place in shown]),
            put_back=sum(permuted[place] for place in shown),
            chance=float(np.mean(chances)),
            densest=_mean_of_trained(densest, [plans[index].kind == "random" for index in chosen]),
            by_chance=densest_by_chance(float(np.mean(chances)), layers[0].size // pictures[0].size),
        )
    sharing = None
    if len(chosen) > 1:
        lift, by_layer = shared_ones(ones, [layer.size for layer in layers])
        sharing = Sharing(indices=tuple(chosen), lift=lift, by_layer=by_layer)
    return MaskFacts(rows=tuple(rows), frames=frames, sharing=sharing)


def picture_of(mask: MaskArray, backbone: BackboneSpec) -> FloatArray | None:
    """Share of ones at each place of what the first layer reads, (height, width), mean over channels and outputs.

    None where that is no picture: a layer that reads neither pixels nor a window of more than one of them.
    """
    ones = mask != 0
    if ones.ndim == 2 and ones.shape[1] == prod(backbone.input_shape):
        return np.asarray(ones.mean(axis=0, dtype=np.float64).reshape(backbone.input_shape).mean(axis=0))
    if ones.ndim == 4 and min(ones.shape[2:]) > 1:
        return np.asarray(ones.mean(axis=(0, 1), dtype=np.float64))
    return None


def _mean_of_trained(values: Sequence[float], random: Sequence[bool]) -> float:
    trained = [value for value, drawn in zip(values, random, strict=True) if not drawn]
    return float(np.mean(trained or values))


def _permuted_by(label: str) -> Key | None:
    """The key that the pixels of a mask's task were permuted by; None if they were not."""
    try:
        reference = parse_reference(label)
    except InvalidReference:  # a random mask, or a stream of another release
        return None
    return reference.key if reference.stream.transform is permute else None


def share_of_densest(picture: FloatArray) -> float:
    """The share of all ones that the densest tenth of the places have, one place at least."""
    falling = np.sort(picture, axis=None)[::-1]
    few = max(1, round(DENSEST * falling.size))
    total = float(falling.sum())
    return float(falling[:few].sum()) / total if total else 0.0


def densest_by_chance(density: float, weights: int) -> float:
    """What `share_of_densest` is of random masks, where a place has so many weights: of their numbers of ones, nearly
    normal, the highest tenth is 1.755 deviations above the mean.
    """
    deviation = math.sqrt((1 - density) / (density * weights)) if density else 0.0
    return min(1.0, DENSEST * (1 + _MEAN_OF_HIGHEST_TENTH * deviation))


def shared_ones(masks: Sequence[npt.NDArray[np.uint8]], sizes: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Ones that pairs of masks share, in multiples of chance.

    Args:
        masks: for each the bits of its layers, packed one layer after the other, each filled up to whole bytes.
        sizes: weights of each layer.

    Returns:
        float64 (masks, masks) over all layers, NaN on the diagonal; and float64 (layers,), mean over the pairs. Chance
        is the product of two masks' densities in a layer.
    """
    number = len(masks)
    both, expected = np.zeros((number, number)), np.zeros((number, number))
    by_layer, start = [], 0
    pairs = ~np.eye(number, dtype=bool)
    for size in sizes:
        end = start + -(-size // 8)
        counts = _common_ones(np.stack([mask[start:end] for mask in masks]))
        ones = np.diag(counts)
        chance = np.outer(ones, ones) / size
        both += counts
        expected += chance
        by_layer.append(float((counts[pairs] / chance[pairs]).mean()))
        start = end
    lift = both / expected
    np.fill_diagonal(lift, np.nan)
    return lift, np.array(by_layer)


def _common_ones(packed: npt.NDArray[np.uint8]) -> FloatArray:
    """How many ones each two rows of bits share, (rows, rows)."""
    counts = np.zeros((len(packed), len(packed)))
    step = 1 << 15  # bytes; sums of 2^18 products are exact in float32
    for start in range(0, packed.shape[1], step):
        bits = np.unpackbits(packed[:, start : start + step], axis=1).astype(np.float32)
        counts += bits @ bits.T
    return counts


def _most_masks(backbone: BackboneSpec) -> int:
    """Masks to decode: fewer of a large network, so that a page takes seconds."""
    return max(2, min(MOST_MASKS, _MOST_NUMBERS // max(1, backbone.weights)))
