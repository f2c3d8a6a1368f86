"""Records of `bank.json`: what a bank is, of what, and which masks it has or will have."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from impress_format.limits import MAX_CLASSES, MAX_MANIFEST_BYTES, MAX_MASKS
from impress_format.records.fields import Bound, Deviation, Digest, Mean, Record, Release, Seed, Side, Text
from impress_format.records.masks import MaskPlan
from impress_format.records.network import BackboneSpec

Instructions = Literal["avx2"]
"""Processor instructions that a bank was computed with on every machine."""


class MadeWith(Record, frozen=True, omit_defaults=True):
    """The releases that a bank was made with: what to install where its network comes out otherwise.

    `instructions` are those of the processor, where all libraries were held to them: every x86-64 machine that has them
    gives the same bits with these releases.
    """

    impress: Release
    torch: Release
    timm: Release
    numpy: Release
    instructions: Instructions | None = None


class Preprocess(Record, frozen=True, omit_defaults=True):
    """How an image becomes an input: converted to `mode`, made `size`, (pixel / 255 - mean) / std a channel.

    Without `crop` an image is resized to `size` whatever its shape; with it, resized in proportion until it just covers
    `size` / `crop`, and the centre is cut out. Values of images of more than 8 bits become pixels by `span`: its first
    is 0, its second 255. With `mirror` the network is asked for the image and for its mirror image, and answers by the
    mean.
    """

    mode: Literal["L", "RGB"]
    size: tuple[Side, Side]
    interpolation: Literal["nearest", "bilinear", "bicubic"]
    mean: tuple[Mean, ...]
    std: tuple[Deviation, ...]
    crop: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    span: tuple[Bound, Bound] | None = None
    mirror: bool = False


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

    @property
    def mirrored(self) -> bool:
        """Whether the network is asked for each image's mirror image too."""
        return self.preprocess is not None and self.preprocess.mirror

    @property
    def instructions(self) -> Instructions | None:
        """What it was computed with on whatever machine; None where each machine has its own."""
        return None if self.made_with is None else self.made_with.instructions

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
