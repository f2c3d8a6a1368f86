"""BatchNorm over a frozen network: whose statistics it normalises by (method.md, Norm layers)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from impress_format.errors import UsageError
from impress_learn.network.backbone import Backbone


def check_batch_size(backbone: Backbone, batch_size: int) -> None:
    """Raises UsageError if training on batches of this size cannot work with this network."""
    if backbone.has_batch_norm and batch_size < 2:
        raise UsageError(
            f"`batch_size` {batch_size}: {backbone.spec.arch} has BatchNorm, which needs at least 2 images"
        )


def with_statistics(backbone: Backbone, effective: Mapping[str, Tensor], images: Tensor | None) -> Mapping[str, Tensor]:
    """The effective weights with BatchNorm statistics of `images` (batch, *input_shape) sent through them.

    With these the network answers for one image alone, as it does for a batch (method.md, Norm layers). Without
    images, for a network that needs none, the weights as they are.
    """
    if images is None:
        return effective
    buffers = dict(backbone.module.named_buffers())
    statistics = {
        f"{path}.{kind}": torch.full_like(buffers[f"{path}.{kind}"], start)
        for path in backbone.norms
        for kind, start in (("running_mean", 0.0), ("running_var", 1.0), ("num_batches_tracked", 0))
    }
    for path in backbone.norms:
        backbone.module.get_submodule(path).train()
    with torch.no_grad():
        functional_call(backbone.module, {**effective, **statistics}, (images,))  # fills the statistics in place
    return {**effective, **statistics}
