"""Many weights that share few values."""

from __future__ import annotations

import torch
from torch import Tensor


def gather_times(values: Tensor, places: Tensor, factors: Tensor) -> Tensor:
    """values[places] * factors, of values (n,), int64 places of any shape and factors of the same, which are fixed.

    Its gradient is several times as fast as that of indexing, and no product is kept for it.
    """
    gathered: Tensor = _GatherTimes.apply(values, places, factors)
    return gathered


class _GatherTimes(torch.autograd.Function):
    """values[places] * factors; the gradient is summed where places agree."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor, places: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(places, factors)
        ctx.count = len(values)  # type: ignore[attr-defined]
        return values.index_select(0, places.flatten()).reshape(places.shape).mul_(factors)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        places, factors = ctx.saved_tensors  # type: ignore[attr-defined]
        gradient = (gradients[0] * factors).flatten()
        total = torch.zeros(ctx.count, device=gradient.device)  # type: ignore[attr-defined]
        return total.scatter_add_(0, places.flatten(), gradient), None, None
