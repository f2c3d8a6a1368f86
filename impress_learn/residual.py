"""A hashed residual beside the masks: few values that all weights share, of one bit or more each (docs/method.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from impress_format.records import BackboneSpec, ResidualBits
from impress_format.residual import hash_places, split_values, store_residual

RATE = 2 / 3
"""What a residual's values move by, for each step of a coefficient."""
_START_BESIDE_ALPHA, _START_ALONE = 0.1, 0.5
"""Deviation of the values before training: from zeros the scale would be zero, and nothing would move."""
SCALES: dict[int, float] = {1: 0.7979, 2: 0.4979, 4: 0.1676, 8: 0.0154}
"""Half the step of the best uniform quantiser of a standard normal variable with 2^b levels (Max 1960)."""


@dataclass(frozen=True, eq=False)
class HashedResidual:
    """How values lie on a network.

    Attributes:
        bits: of a value.
        sizes: values of each of these layers.
        places: for each layer that it is of, by name, which of all values each weight has: int64, the layer's shape.
    """

    bits: ResidualBits
    sizes: tuple[int, ...]
    places: Mapping[str, Tensor]

    @property
    def count(self) -> int:
        return sum(self.sizes)

    def start(self, generator: torch.Generator, *, alone: bool) -> Tensor:
        """Values (count,) to train from.

        Args:
            alone: without masks beside them.
        """
        deviation = _START_ALONE if alone else _START_BESIDE_ALPHA
        return torch.randn(self.count, generator=generator) * deviation

    def rounded(self, values: Tensor) -> Tensor:
        """The values as they will be stored, nearly; gradients go straight through."""
        codes, scales = self._codes(values.detach())
        stored = (2 * codes - (2**self.bits - 1)) * scales
        return values + (stored - values).detach()

    def store(self, values: Tensor) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """The bytes of the values (impress_format/residual.py)."""
        codes, scales = self._codes(values.detach().cpu())
        firsts = np.cumsum([0, *self.sizes[:-1]])
        stored: np.ndarray[tuple[int], np.dtype[np.uint8]] = store_residual(
            codes.numpy().astype(np.uint8), scales.numpy()[firsts].astype(np.float16), self.bits
        )
        return stored

    def add_to(
        self, combined: Mapping[str, Tensor], weights: Mapping[str, Tensor], values: Tensor
    ) -> dict[str, Tensor]:
        """Effective weights with a residual: those without it, plus v[h] * W in the layers that it is of."""
        added = {name: _Gather.apply(values, places) * weights[name] for name, places in self.places.items()}
        return {name: effective + added[name] if name in added else effective for name, effective in combined.items()}

    def _codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The level of each value, counted from the lowest, and the scale that it has."""
        parts = values.split(self.sizes)
        scales = torch.cat([(SCALES[self.bits] * part.square().mean().sqrt()).expand(len(part)) for part in parts])
        if self.bits == 1:
            return (values > 0).float(), torch.cat([part.abs().mean().expand(len(part)) for part in parts])
        levels = 2**self.bits - 1
        codes = ((values / scales.clamp(min=1e-12) + levels) / 2).round().clamp(0, levels)
        return codes, scales


def make_residual(
    spec: BackboneSpec, count: int, bits: ResidualBits, device: torch.device, *, last: int = 0
) -> HashedResidual:
    """`count` values for the masked layers of a network, or for the `last` of them before the classifier."""
    layers = spec.residual_layers(last)
    sizes = split_values(layers, count)
    places, first = {}, 0
    for layer, size in zip(layers, sizes, strict=True):
        chosen = torch.from_numpy(hash_places(spec.seed, layer, size) + first)
        places[layer.name] = chosen.reshape(layer.shape).to(device)
        first += size
    return HashedResidual(bits, sizes, places)


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
