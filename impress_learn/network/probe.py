"""What a network answers to a few seeded images, kept in the bank beside the digest of its weights.

Equal weights do not make equal networks: a release of timm may change a padding, an activation or an epsilon. So a bank
stores a few logits of the bare backbone, and a network that is rebuilt under other releases is held to them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from impress_format.errors import BackboneMismatch
from impress_format.records.manifest import MadeWith
from impress_format.records.network import BackboneSpec
from impress_format.weights import random_words
from impress_learn.network.backbone import Backbone

_IMAGES, _OUTPUTS = 8, 2
_DIGITS = 6
"""Significant digits that are stored."""
TOLERANCE = 1e-3
"""Tolerance relative to the largest logit: ten times what other kernels and float64 gave on ten networks, a twentieth
of the least that a changed padding did (docs/results, Rebuilt networks). GELU by tanh or a tenfold epsilon may
pass: they change little."""


def probe_images(spec: BackboneSpec) -> Tensor:
    """Images (8, *input_shape), uniform in [-1, 1), the same everywhere: 24 bits of a word of Philox each."""
    shape = (_IMAGES, *spec.input_shape)
    words = random_words(spec.seed, "probe", int(np.prod(shape)))
    uniform = (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return torch.from_numpy(uniform.reshape(shape))


def probe_logits(backbone: Backbone) -> tuple[float, ...]:
    """The first logits of each probe image under the bare weights, BatchNorm with the statistics of this batch."""
    with torch.no_grad():
        logits = backbone(backbone.weights, probe_images(backbone.spec))[:, :_OUTPUTS]
    return tuple(float(f"{value:.{_DIGITS}g}") for value in logits.flatten().tolist())


def check_logits(backbone: Backbone, made: MadeWith | None) -> None:
    """Hold a rebuilt network to the logits in its spec, if the releases are not those it was made with.

    Raises:
        BackboneMismatch: it answers otherwise than the network that the bank was made with.
    """
    expected = backbone.spec.logits
    if expected is None or (made is not None and (made.torch, made.timm) == releases()):
        return
    found = probe_logits(backbone)
    scale = max(map(abs, expected), default=0.0)
    apart = max((abs(a - b) for a, b in zip(found, expected, strict=True)), default=0.0)
    if not apart <= TOLERANCE * scale:
        torch_here, timm_here = releases()
        before = f"timm {made.timm} and torch {made.torch}" if made else "other releases"
        raise BackboneMismatch(
            f"{backbone.spec.arch} has the bank's weights and does not compute what it did: logits are {apart:.3g} "
            f"apart where they reach {scale:.3g}.\nThe bank was made with {before}, here are timm {timm_here} and "
            f"torch {torch_here}: install those releases"
        )


def releases() -> tuple[str, str]:
    """The releases of torch and timm that are installed."""
    from importlib.metadata import version

    return version("torch"), version("timm")
