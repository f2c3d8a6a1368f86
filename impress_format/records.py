"""The frozen records of a bank, as they are written to disk (docs/format.md).

Decoding is strict: an unknown field, a missing field or a wrong type is an error, so that a record that
decodes is a record that this release understands whole.
"""

from __future__ import annotations

from math import prod
from typing import Literal

import msgspec

Init = Literal["signed-constant", "kaiming-normal"]
MaskKind = Literal["heterogeneous", "homogeneous", "random"]


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class LayerSpec(_Record, frozen=True, omit_defaults=True):
    """One tensor of the backbone that is drawn from the seed.

    `masked` is false for tensors that are random but carry no mask (position embeddings, class tokens).
    """

    name: str
    shape: tuple[int, ...]
    masked: bool = True

    @property
    def size(self) -> int:
        return prod(self.shape)


class BackboneSpec(_Record, frozen=True):
    """All that is needed to rebuild the frozen network, and the digest to check it by."""

    arch: str
    init: Init
    seed: int
    input_shape: tuple[int, int, int]
    classes: int
    layers: tuple[LayerSpec, ...]
    digest: str

    @property
    def masked_layers(self) -> tuple[LayerSpec, ...]:
        return tuple(layer for layer in self.layers if layer.masked)

    @property
    def weights(self) -> int:
        """Number of maskable weights, n in the paper."""
        return sum(layer.size for layer in self.masked_layers)


class FitSpec(_Record, frozen=True):
    """How a mask or an alpha was trained; enough to train it again."""

    epochs: int
    batch_size: int
    lr: float
    seed: int
    holdout: float = 0.0


class MaskPlan(_Record, frozen=True):
    """One mask of the bank, as planned when the bank was created; its file follows when it is trained."""

    kind: MaskKind
    task: str | None
    density: float
    seed: int
    fit: FitSpec | None

    @property
    def label(self) -> str:
        return self.task or "random"


class BankManifest(_Record, frozen=True):
    """`bank.json`: what the bank is, and which masks it has or will have."""

    format_version: int
    backbone: BackboneSpec
    masks: tuple[MaskPlan, ...]
    calibration: bool = False
    digest: str = ""


class MaskRecord(_Record, frozen=True):
    """Header of one mask file.

    `ones` gives the number of ones in each masked layer, in order; `bits` is the digest of the mask itself, the
    same whichever release of zstd compressed it.
    """

    index: int
    plan: MaskPlan
    ones: tuple[int, ...]
    bits: str
    backbone: str
    accuracy: float | None
    digest: str = ""


class CalibrationRecord(_Record, frozen=True):
    """Header of the calibration images: how to normalise their pixels (units of pixel / 255, per channel)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    backbone: str
    digest: str = ""


class TaskFit(_Record, frozen=True, omit_defaults=True):
    """How an alpha was learned. Defaults are left out of the file, where every byte counts.

    `start` is the digest of the task file whose alpha this one went on from (`task update`), null if from 1/K.
    """

    epochs: int
    lr: float
    seed: int = 0
    batch_size: int = 128
    l1: float = 0.0
    holdout: float = 0.0
    shots: int | None = None
    start: str | None = None


class TaskRecord(_Record, frozen=True, omit_defaults=True):
    """Header of one task file.

    `basis` is the digest of the masks that alpha weighs, the first rows of the bank; so an alpha stays
    valid when masks are added, and is refused beside other masks. `granularity` is G of method.md.
    """

    name: str
    task: str
    basis: str
    accuracy: float
    train_accuracy: float
    fit: TaskFit
    granularity: int = 1
    digest: str = ""


def supermask_sizes(layers: tuple[LayerSpec, ...], density: float) -> tuple[int, ...]:
    """Number of ones of each layer: round(density * n), and at least one so that no layer is cut off."""
    return tuple(max(1, round(density * layer.size)) for layer in layers)


def alpha_columns(layers: tuple[LayerSpec, ...], granularity: int) -> tuple[int, ...]:
    """Columns of alpha each layer takes: min(G, output channels) (method.md, granularity)."""
    return tuple(min(granularity, layer.shape[0]) for layer in layers)
