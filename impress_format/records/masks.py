"""Records of masks: as planned, as stored, and how many ones each layer of one has."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, ClassVar

from msgspec import Meta

from impress_format.limits import MAX_LAYERS, MAX_MASKS, MAX_WEIGHTS
from impress_format.records.fields import (
    Allocation,
    Count,
    Digest,
    FileVersion,
    FullDigest,
    MaskKind,
    MaskType,
    Record,
    Seed,
    Share,
    SignatureText,
    Text,
)
from impress_format.records.network import LayerSpec
from impress_format.records.training import Elsewhere, MaskTrainingRecord


class MaskPlan(Record, frozen=True, omit_defaults=True):
    """One mask of the bank, as planned when the bank was created; its file follows when it is trained.

    `type` is what its ones weigh (mask_values.py), `allocation` how many of them each layer has (supermask_sizes).
    """

    kind: MaskKind
    task: Text | None
    density: float
    seed: Seed
    fit: MaskTrainingRecord | None
    type: MaskType = "binary"
    allocation: Allocation = "uniform"

    @property
    def is_of_version_1(self) -> bool:
        """Whether format version 1 can say it: binary, of one density, trained by plain SGD."""
        fit = self.fit
        plain = fit is None or (fit.optimizer, fit.weight_decay, fit.warmup, fit.threads) == ("sgd", 0.0, 0, 1)
        return (self.type, self.allocation, plain) == ("binary", "uniform", True)

    @property
    def label(self) -> str:
        return self.task or "random"

    @property
    def sort(self) -> str:
        """Kind and, where they are not the usual ones, type and allocation."""
        told = (self.kind, *(one for one in (self.type, self.allocation) if one not in ("binary", "uniform")))
        return ", ".join(told)


class MaskRecord(Record, frozen=True, omit_defaults=True):
    """Header of one mask file.

    A file of version 1 does not say its version. `ones` gives the number of ones in each masked layer, in order; `bits`
    is the digest of the mask itself, the same whichever release of zstd compressed it. `signature`, in hex, tells
    images of the mask's task from others.
    """

    max_bytes: ClassVar[int] = MAX_WEIGHTS

    index: Annotated[int, Meta(ge=0, lt=MAX_MASKS)]
    plan: MaskPlan
    ones: Annotated[tuple[Count, ...], Meta(max_length=MAX_LAYERS)]
    bits: Digest
    backbone: FullDigest
    accuracy: Share | None
    signature: SignatureText | None = None
    elsewhere: Elsewhere | None = None
    format_version: FileVersion = 1
    digest: Digest = ""


def supermask_sizes(
    layers: tuple[LayerSpec, ...], density: float, allocation: Allocation = "uniform"
) -> tuple[int, ...]:
    """Number of ones of each layer, at least one so that no layer is cut off.

    `uniform`: round(density * n). `erdos-renyi` (Mocanu et al. 2018): of density * n ones in all, a layer of o outputs
    and i inputs a group has a share in proportion to o + i, but no layer is denser than one half, or than `density` if
    that is more; what a layer may not have goes to the others.
    """
    if allocation == "uniform":
        return tuple(max(1, round(density * layer.size)) for layer in layers)
    most = [Fraction(max(density, 0.5)) * layer.size for layer in layers]
    wishes = [layer.fans[0] + layer.fans[1] for layer in layers]
    left, wished = Fraction(density) * sum(layer.size for layer in layers), sum(wishes)
    sizes = [1] * len(layers)
    for index in sorted(range(len(layers)), key=lambda index: most[index] / wishes[index]):
        share = min(most[index], left * wishes[index] / wished)
        left, wished = left - share, wished - wishes[index]
        sizes[index] = max(1, int(share))
    return tuple(sizes)
