"""ResNet-18 for small images: a 3×3 stem without pooling, and any width (SupSup's and ImpressLearn's nf = 20)."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from impress_format.errors import UsageError

SMALL_RESNET = "resnet-18-nfN"
"""How the family is written in messages: N is the number of filters of the first stage."""
_NAME = re.compile(r"resnet-18-nf([1-9][0-9]{0,3})", re.ASCII).fullmatch
_WIDEST = 1024


def filters_of(arch: str) -> int | None:
    """N of `resnet-18-nfN`: output channels of the stem and the first stage, doubled with each later one; None of
    another architecture.

    Raises:
        UsageError: N is odd, which timm's stems cannot be, or too large.
    """
    found = _NAME(arch)
    if found is None:
        return None
    filters = int(found[1])
    if filters % 2 or filters > _WIDEST:
        raise UsageError(f"{arch}: expected an even number of filters, 2 to {_WIDEST}")
    return filters


def small_resnet(filters: int, channels: int, classes: int) -> nn.Module:
    """timm's ResNet-18 of this width, its stem for small images (1.09 M weights at 20 filters, 11.2 M at 64)."""
    import timm

    net: nn.Module = timm.create_model("resnet18", **_settings(filters, channels, classes))
    net.conv1 = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


def small_resnet_lines(filters: int, channels: int, classes: int) -> tuple[str, ...]:
    """Lines of Python that make `net`, the same network, without this project."""
    settings = ", ".join(f"{name}={value!r}" for name, value in _settings(filters, channels, classes).items())
    return (
        "import timm",
        "from torch import nn",
        f'net = timm.create_model("resnet18", {settings})',
        f"net.conv1, net.maxpool = nn.Conv2d({channels}, {filters}, 3, padding=1, bias=False), nn.Identity()",
    )


def _settings(filters: int, channels: int, classes: int) -> dict[str, Any]:
    """A deep stem, though it is replaced: of a plain one timm fixes the width."""
    return {
        "channels": tuple(filters * 2**stage for stage in range(4)),
        "stem_width": filters // 2,
        "stem_type": "deep",
        "in_chans": channels,
        "num_classes": classes,
    }
