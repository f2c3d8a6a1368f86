"""What a bank is asked to be: its network and its masks. Light to import: the command line makes options of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


def image_size_of(text: str) -> int | Literal["auto"]:
    """An image size as it is given on the command line.

    Raises:
        ValueError: it is neither a whole number nor `auto`.
    """
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r}: expected a number of pixels, or auto") from None


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network of a new bank, and what images it takes.

    Attributes:
        backbone: the network: `lenet-300-100`, `resnet-18-nfN` or `timm:NAME`.
        weights: that others trained, for a timm model: FILE.safetensors, `timm:TAG` or `hf-hub:OWNER/NAME`, the last
            two also with `@REVISION`. The bank names them and does not hold them.
        init: how weights are drawn from the seed: all of a layer's standard deviation with a random sign, or normal.
        image_size: height and width that all images are made; None for their own, or, where they have none, for what
            the network is made for; `auto`, with `weights`, to try several by heads on training images and take the one
            that is worth its time.
        image_mode: grey (L) or RGB; None for as they are.
        mirror: whether the network is asked for each image and its mirror image, and answers by the mean, for all that
            the bank will ever answer; twice the time, and no byte.
        adapt: passes over the tasks' images in which a pretrained network is first moved towards them, for all heads
            that will stand on it; kept in the bank, four bits a weight.

    Examples:
        >>> Network(backbone="resnet-18-nf20", image_size=32).init
        'signed-constant'
    """

    backbone: str = field(
        default="lenet-300-100",
        metadata={
            "help": "lenet-300-100; timm:NAME for any timm model; resnet-18-nfN, a ResNet-18 of N filters for small "
            "images (nf20: 1.1 M weights, nf64: 11.2 M)."
        },
    )
    weights: str | None = field(
        default=None,
        metadata={
            "metavar": "SOURCE",
            "help": "Weights that others trained, for timm:NAME: FILE.safetensors, timm:TAG or hf-hub:OWNER/NAME, the "
            "last two also with @REVISION (commit, tag or branch). The bank names them and does not hold them.",
        },
    )
    init: Literal["signed-constant", "kaiming-normal"] = field(
        default="signed-constant", metadata={"help": "How the frozen weights are drawn."}
    )
    image_size: int | Literal["auto"] | None = field(
        default=None,
        metadata={
            "metavar": "PIXELS|auto",
            "parser": image_size_of,
            "help": "Height and width that all images are made. Default: their own; of folders what the network is "
            "made for, 32 for lenet-300-100. auto, with `weights`: tries 96, 128, 160 and that by heads on training "
            "images, and takes the one that is worth its time.",
        },
    )
    image_mode: Literal["L", "RGB"] | None = field(
        default=None, metadata={"help": "Grey (L) or RGB. Default: as they are."}
    )
    mirror: bool = field(
        default=False,
        metadata={
            "help": "Ask the network for each image and its mirror image, and answer by the mean: photos half a point "
            "better, in twice the time.",
        },
    )
    adapt: int = field(
        default=0,
        metadata={
            "metavar": "EPOCHS",
            "help": "With `weights`: first move the network towards these tasks, for so many passes over their images. "
            "Kept in the bank, four bits a weight; every head gains from it, those of other tasks too.",
        },
    )


@dataclass(frozen=True, kw_only=True)
class Masks:
    """The masks that a bank is to have, or to have more of.

    Attributes:
        masks_per_task: homogeneous masks of each task; 0 for none, where the bank stands on weights that others
            trained, or on random masks.
        random_masks: untrained masks beside these.
        density: share of a layer's weights that a mask keeps, 0 to 1; None for that of the bank's first mask, or .1.
        mask_type: what the ones of a mask weigh: 1, a sign each, or a number each; None for what those of the bank's
            first mask do, or 1.
        allocation: whether all layers have this density, or small ones more (Erdős–Rényi); None for that of the bank's
            first mask, or uniform.

    Examples:
        >>> Masks(random_masks=3).masks_per_task
        1
    """

    masks_per_task: int = field(
        default=1, metadata={"help": "1: heterogeneous masks. More: that many homogeneous ones each."}
    )
    random_masks: int = field(default=0, metadata={"help": "Untrained masks to add after the trained ones."})
    density: float | None = field(
        default=None,
        metadata={
            "help": "Share of ones in a mask, in (0, 1].",
            "help_open": "Share of ones. Default: that of the bank's first mask.",
        },
    )
    mask_type: Literal["binary", "signed", "real"] | None = field(
        default=None,
        metadata={
            "help": "What the ones of a mask weigh: 1, a sign each, or a number each (8 bits).",
            "help_open": "What the ones weigh. Default: as in the bank's first mask.",
        },
    )
    allocation: Literal["uniform", "erdos-renyi"] | None = field(
        default=None,
        metadata={
            "help": "Whether all layers have that density, or small ones more (Erdős–Rényi, at most 1/2).",
            "help_open": "How ones are shared out to the layers. Default: as in the bank's first mask.",
        },
    )


FIRST_MASKS = Masks(density=0.1, mask_type="binary", allocation="uniform")
"""What the masks of a new bank are like where nobody says."""
