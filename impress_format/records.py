"""The frozen records of a bank, as they are written to disk (docs/format.md).

Decoding is strict: an unknown field, a missing field, a wrong type or a value out of its range is an error, so that a
record that decodes is a record that this release understands whole.
"""

from __future__ import annotations

import hashlib
import re
from fractions import Fraction
from math import prod
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from impress_format.limits import (
    MAX_AXES,
    MAX_CALIBRATION_BYTES,
    MAX_CLASSES,
    MAX_INTEGER,
    MAX_LAYERS,
    MAX_MANIFEST_BYTES,
    MAX_MASKS,
    MAX_PACK_BYTES,
    MAX_PACKED,
    MAX_PROJECTION_BYTES,
    MAX_RECOGNISER_BYTES,
    MAX_SIDE,
    MAX_TEXT,
    MAX_WEIGHTS,
)

# Neither controls, which a terminal would obey, nor marks that are invisible or turn the direction of writing.
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff"
TASK_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"

TEXT = rf"\A[^{_UNSEEN}]{{1,{MAX_TEXT}}}\Z"
Text = Annotated[str, Meta(pattern=TEXT)]
TaskName = Annotated[str, Meta(pattern=rf"\A{TASK_NAME}\Z")]
LayerName = Annotated[str, Meta(pattern=r"\A[!#-\[\]-~]{1,200}\Z")]
"""Visible ASCII but quote and backslash: the same in JSON as in memory."""
Release = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z.+!_-]{1,64}\Z")]
"""A version as packages write it: `2.14.1+cu126`."""
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
BasisId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
"""The first half of a Digest."""
FullDigest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
FileVersion = Literal[1, 2]
Seed = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Count = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Holdout = Annotated[float, Meta(ge=0.0, lt=1.0)]
LearningRate = Annotated[float, Meta(gt=0.0)]
WeightDecay = Annotated[float, Meta(ge=0.0)]
Warmup = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Mean = Annotated[float, Meta(ge=-1e6, le=1e6)]
Deviation = Annotated[float, Meta(ge=1e-6, le=1e6)]
Bound = Annotated[float, Meta(ge=-4e38, le=4e38)]
"""Any float32 is one."""

SIGNATURE_BYTES = 64
TAG_BYTES = 2
"""Of the digest of the recogniser or projection that a signature was made with, which it begins with."""
SignatureText = Annotated[str, Meta(pattern=rf"\A[0-9a-f]{{{2 * SIGNATURE_BYTES}}}\Z")]

ResidualBits = Literal[0, 1, 2, 4, 8]
NumberOf = Annotated[int, Meta(ge=0, le=MAX_SIDE)]
Init = Literal["signed-constant", "kaiming-normal"]
MaskKind = Literal["heterogeneous", "homogeneous", "random"]
MaskType = Literal["binary", "signed", "real"]
Allocation = Literal["uniform", "erdos-renyi"]
"""How a mask's ones are shared out to the layers."""
Optimizer = Literal["sgd", "adam", "rmsprop"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record that takes no field it does not know."""


class LayerSpec(Record, frozen=True, omit_defaults=True):
    """One tensor of the backbone that is drawn from the seed.

    `masked` is false for tensors that are random but carry no mask (position embeddings, class tokens). `acts_as` is
    (outputs, inputs, kernel...) of the convolution that a layer computes, where the axes of its shape mean something
    else: transposed convolutions and banks of experts. None: they mean just that.
    """

    name: LayerName
    shape: Annotated[tuple[Side, ...], Meta(min_length=1, max_length=MAX_AXES)]
    masked: bool = True
    acts_as: Annotated[tuple[Side, ...], Meta(min_length=2, max_length=MAX_AXES)] | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def fans(self) -> tuple[Side, ...]:
        """Outputs, inputs that one output sees, and how often for each (kernel)."""
        return self.acts_as or self.shape

    @property
    def fan_in(self) -> int:
        """Weights that one output sees."""
        return prod(self.fans[1:])


class PretrainedRecord(Record, frozen=True, omit_defaults=True):
    """Weights that others trained, which the network stands on. The bank names them and does not hold them.

    `tensors` has the SHA-256 of each in their file, those that the network has no use for (its classifier) too;
    `origin` is where to get it, if the file says so; `revision` the commit of the Hub's repository, where they are
    of one and a release that records it made the bank.
    """

    source: Annotated[
        str, Meta(pattern=r"\A(file:[\w .,+()-]{1,255}|timm:[\w.-]{1,96}|hf-hub:[\w.-]{1,96}/[\w.-]{1,96})\Z")
    ]
    tensors: Annotated[dict[Text, FullDigest], Meta(min_length=1, max_length=MAX_LAYERS)]
    licence: Text | None = None
    origin: Text | None = None
    revision: Annotated[str, Meta(pattern=r"\A[0-9a-f]{40}\Z")] | None = None

    @property
    def address(self) -> str:
        """The source with its revision, as `weights` takes it."""
        return f"{self.source}@{self.revision}" if self.revision else self.source

    @property
    def identity(self) -> str:
        """SHA-256 that all copies of these tensors share, whatever their file is called."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self.tensors.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


class BackboneSpec(Record, frozen=True, omit_defaults=True):
    """All that is needed to rebuild the frozen network, and to check it by: the digest of its weights, a few logits.

    A bank of version 1 has no logits. On weights that others trained (`pretrained`) only the last layer is drawn from
    the seed; norms keep the statistics that came with them. `zeros` are constant parameters that hold 0 and are not
    named biases, which hold 0 anyway.
    """

    arch: Text
    init: Init
    seed: Seed
    input_shape: tuple[Side, Side, Side]
    classes: Annotated[int, Meta(ge=1, le=MAX_CLASSES)]
    layers: Annotated[tuple[LayerSpec, ...], Meta(max_length=MAX_LAYERS)]
    digest: FullDigest
    logits: Annotated[tuple[float, ...], Meta(min_length=1, max_length=64)] | None = None
    pretrained: PretrainedRecord | None = None
    zeros: Annotated[tuple[LayerName, ...], Meta(max_length=MAX_LAYERS)] = ()

    @property
    def masked_layers(self) -> tuple[LayerSpec, ...]:
        return tuple(layer for layer in self.layers if layer.masked)

    def adapted_layers(self, count: int) -> tuple[LayerSpec, ...]:
        """Of the last `count` masked layers before the last one those whose outputs see more than one input."""
        layers = self.masked_layers
        return tuple(layer for layer in layers[len(layers) - 1 - count : -1] if layer.fans[1] > 1)

    def last_layers_holding(self, share: float) -> int:
        """The fewest last masked layers before the last one that hold this share of the weights before it."""
        layers = self.masked_layers[:-1]
        enough, held = share * sum(layer.size for layer in layers), 0
        for count, layer in enumerate(reversed(layers), start=1):
            held += layer.size
            if held >= enough:
                return count
        return len(layers)

    @property
    def weights(self) -> int:
        """Number of maskable weights, n in the paper."""
        return sum(layer.size for layer in self.masked_layers)

    @property
    def maskable_share(self) -> float:
        """Maskable weights among all that are drawn; biases, norms and other constants are none of them."""
        return self.weights / sum(layer.size for layer in self.layers)


class MaskFitRecord(Record, frozen=True, omit_defaults=True):
    """How a mask was trained; enough to train it again. What has a default is left out of the file where it holds."""

    epochs: Count
    batch_size: Count
    lr: LearningRate
    seed: Seed
    holdout: Holdout
    optimizer: Optimizer = "sgd"
    weight_decay: WeightDecay = 0.0
    warmup: Warmup = 0


class MaskPlan(Record, frozen=True, omit_defaults=True):
    """One mask of the bank, as planned when the bank was created; its file follows when it is trained.

    `type` is what its ones weigh (mask_values.py), `allocation` how many of them each layer has (supermask_sizes).
    """

    kind: MaskKind
    task: Text | None
    density: float
    seed: Seed
    fit: MaskFitRecord | None
    type: MaskType = "binary"
    allocation: Allocation = "uniform"

    @property
    def is_of_version_1(self) -> bool:
        """Whether format version 1 can say it: binary, of one density, trained by plain SGD."""
        fit = self.fit
        plain = fit is None or (fit.optimizer, fit.weight_decay, fit.warmup) == ("sgd", 0.0, 0)
        return (self.type, self.allocation, plain) == ("binary", "uniform", True)

    @property
    def label(self) -> str:
        return self.task or "random"

    @property
    def sort(self) -> str:
        """Kind and, where they are not the usual ones, type and allocation."""
        told = (self.kind, *(one for one in (self.type, self.allocation) if one not in ("binary", "uniform")))
        return ", ".join(told)


class MadeWith(Record, frozen=True):
    """The releases that a bank was made with: what to install where its network comes out otherwise."""

    impress: Release
    torch: Release
    timm: Release
    numpy: Release


class Preprocess(Record, frozen=True, omit_defaults=True):
    """How an image becomes an input: converted to `mode`, made `size`, (pixel / 255 - mean) / std a channel.

    Without `crop` an image is resized to `size` whatever its shape; with it, resized in proportion until it just covers
    `size` / `crop`, and the centre is cut out. Values of images of more than 8 bits become pixels by `span`: its first
    is 0, its second 255.
    """

    mode: Literal["L", "RGB"]
    size: tuple[Side, Side]
    interpolation: Literal["nearest", "bilinear", "bicubic"]
    mean: tuple[Mean, ...]
    std: tuple[Deviation, ...]
    crop: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    span: tuple[Bound, Bound] | None = None


class BankManifest(Record, frozen=True):
    """`bank.json`: what the bank is, and which masks it has or will have.

    `seed` is that of the command that created it. A bank of version 1 does not say it, nor how it was made; one that
    was upgraded from it has no `made_with`. `class_names` are those of all its tasks, null where these have classes of
    their own. `mask_classes` has by reference the class names of tasks that masks were trained for, where neither
    `class_names` nor the reference tells them.
    """

    max_bytes: ClassVar[int] = MAX_MANIFEST_BYTES

    format_version: int
    made_with: MadeWith | None
    seed: Seed | None
    preprocess: Preprocess | None
    class_names: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=MAX_CLASSES)] | None
    backbone: BackboneSpec
    masks: Annotated[tuple[MaskPlan, ...], Meta(max_length=MAX_MASKS)]
    calibration: bool = False
    recogniser: bool = False
    mask_classes: (
        dict[Text, Annotated[tuple[Text, ...], Meta(min_length=2, max_length=MAX_CLASSES)]] | msgspec.UnsetType
    ) = msgspec.UNSET
    digest: Digest = ""

    def classes_of_mask(self, task: str) -> tuple[str, ...]:
        """What the classes of a mask's task are called, by its reference; empty where the manifest does not say."""
        return () if isinstance(self.mask_classes, msgspec.UnsetType) else self.mask_classes.get(task, ())


class ManifestV1(Record, frozen=True):
    """`bank.json` of format version 1."""

    max_bytes: ClassVar[int] = MAX_MANIFEST_BYTES

    format_version: int
    backbone: BackboneSpec
    masks: Annotated[tuple[MaskPlan, ...], Meta(max_length=MAX_MASKS)]
    calibration: bool = False
    digest: Digest = ""


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
    format_version: FileVersion = 1
    digest: Digest = ""


class CalibrationRecord(Record, frozen=True, omit_defaults=True):
    """Header of the calibration images: how to normalise their pixels (units of pixel / 255, per channel)."""

    max_bytes: ClassVar[int] = MAX_CALIBRATION_BYTES

    mean: tuple[Mean, ...]
    std: tuple[Deviation, ...]
    backbone: FullDigest
    format_version: FileVersion = 1
    digest: Digest = ""


class RecogniserRecord(Record, frozen=True):
    """Header of the recogniser that signatures of tasks are made with."""

    max_bytes: ClassVar[int] = MAX_RECOGNISER_BYTES

    format_version: Literal[2]
    backbone: FullDigest
    sign_weight: Share
    digest: Digest = ""

    @property
    def tag(self) -> bytes:
        """What signatures made with it begin with."""
        return bytes.fromhex(self.digest)[:TAG_BYTES]


class ProjectionRecord(Record, frozen=True):
    """Header of the projection that heads of tasks stand on.

    `tasks` are those whose images it was made of, but for a share of `holdout`. Where the network was moved towards
    them first, `epochs` is for how long, `layers` how many of the last layers before the classifier that concerns, and
    `bits` what each of their weights takes; all 0 where it was not.
    """

    max_bytes: ClassVar[int] = MAX_PROJECTION_BYTES

    format_version: Literal[2]
    backbone: FullDigest
    tasks: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=MAX_MASKS)]
    holdout: Holdout
    epochs: NumberOf
    layers: NumberOf
    bits: ResidualBits
    digest: Digest = ""

    @property
    def tag(self) -> bytes:
        """What signatures made with it begin with."""
        return bytes.fromhex(self.digest)[:TAG_BYTES]


class TaskFitRecord(Record, frozen=True, omit_defaults=True):
    """How an alpha was learned. Defaults are left out of the file, where every byte counts.

    `start` is the digest of the task file whose alpha this one went on from (`task update`), null if from 1/K.
    """

    epochs: Count
    lr: LearningRate
    seed: Seed = 0
    batch_size: Count = 128
    l1: Annotated[float, Meta(ge=0.0)] = 0.0
    holdout: Holdout = 0.0
    shots: Count | None = None
    start: Digest | None = None
    optimizer: Literal["adam", "rmsprop"] = "adam"
    weight_decay: WeightDecay = 0.0
    warmup: Warmup = 0

    @property
    def is_of_version_1(self) -> bool:
        """Whether format version 1 can say it: learned by plain Adam."""
        return (self.optimizer, self.weight_decay, self.warmup) == ("adam", 0.0, 0)


class PackRecord(Record, frozen=True):
    """Header of one pack of tasks; `named` is how many have a name that their reference does not make."""

    max_bytes: ClassVar[int] = MAX_PACK_BYTES

    format_version: Literal[2]
    tasks: Annotated[int, Meta(ge=1, le=MAX_PACKED)]
    named: Annotated[int, Meta(ge=0, le=MAX_PACKED)]
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


_READABLE = re.compile(TEXT).fullmatch


def is_text(text: str) -> bool:
    """Whether a record may hold this name or reference: UTF-8, 1 to 1,024 characters, none of them invisible."""
    try:
        text.encode()
    except UnicodeEncodeError:  # as a file name has it whose bytes are no UTF-8
        return False
    return _READABLE(text) is not None


_TASK_NAME = re.compile(TASK_NAME, re.ASCII).fullmatch


def is_task_name(name: str) -> bool:
    """Whether a task may have this name: letters, digits, '.', '_', '-', at most 100, not starting with a sign."""
    return _TASK_NAME(name) is not None
