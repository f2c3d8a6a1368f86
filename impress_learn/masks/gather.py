"""Many weights that share few values."""

from __future__ import annotations

import torch
from torch import Tensor


def gather(values: Tensor, places: Tensor) -> Tensor:
    """values[places], of values (n,) and int64 places of any shape, with a gradient that is several times as fast."""
    gathered: Tensor = _Gather.apply(values, places)
    return gathered


class _Gather(torch.autograd.Function):
    """values[places], whose gradient is summed where places agree: several times as fast as that of indexing."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.count = len(values)  # type: ignore[attr-defined]
        return values.index_select(0, places.flatten()).reshape(places.shape)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors  # type: ignore[attr-defined]
        (gradient,) = gradients
        total = torch.zeros(ctx.count, device=gradient.device)  # type: ignore[attr-defined]
        return total.index_add_(0, places.flatten(), gradient.flatten()), None
