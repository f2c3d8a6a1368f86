"""The masks of one layer, laid over its weights: unpacked where they are small, else one bit each in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

_AT_ONCE = 1 << 24
"""Values that packed masks are unpacked to at a time."""


@dataclass(frozen=True, eq=False)
class StackedMasks:
    """K masks times the weights: fastest, at 4 bytes a mask and weight.

    Attributes:
        stack: M_k * W, float32 (K, out_channels, fan_in).
    """

    stack: Tensor

    def __len__(self) -> int:
        return len(self.stack)

    @property
    def device(self) -> torch.device:
        return self.stack.device

    def one(self, index: int) -> Tensor:
        """M_k * W (out_channels, fan_in)."""
        return self.stack[index]

    def first(self, count: int) -> StackedMasks:
        return StackedMasks(self.stack[:count])

    def combine(self, coefficients: Tensor) -> Tensor:
        """(sum_k c_k M_k) * W (out_channels, fan_in), differentiable in the coefficients (K, groups of channels)."""
        groups, out = coefficients.shape[1], self.stack.shape[1]
        if groups == 1:
            return (coefficients.T @ self.stack.flatten(1)).reshape(out, -1)
        channels = coefficients[:, group_of_channel(out, groups, coefficients.device)]
        return torch.einsum("ko,koi->oi", channels, self.stack)

    def sums(self, coefficients: Tensor) -> Tensor:
        """(sum_k c_k M_k) * W of T tasks, (T, out_channels, fan_in), from coefficients (T, K, groups of channels)."""
        groups, out = coefficients.shape[2], self.stack.shape[1]
        if groups == 1:
            return (coefficients[:, :, 0] @ self.stack.flatten(1)).reshape(len(coefficients), out, -1)
        channels = coefficients[:, :, group_of_channel(out, groups, coefficients.device)]
        return torch.einsum("tko,koi->toi", channels, self.stack).contiguous()

    def slopes(self, gradients: Tensor, groups: int) -> Tensor:
        """Gradients by the coefficients (T, K, groups), of those by `sums` (T, out_channels, fan_in)."""
        if groups == 1:
            return (gradients.flatten(1) @ self.stack.flatten(1).T)[:, :, None]
        return _by_group(torch.einsum("toi,koi->tko", gradients, self.stack), groups)


@dataclass(frozen=True, eq=False)
class PackedMasks:
    """K binary or signed masks, one bit (signed: two) a mask and weight: they are never all unpacked.

    Attributes:
        ones: uint8 (ceil(K / 8), out_channels, fan_in); bit k % 8 of byte k // 8 is set where mask k is not 0.
        negative: likewise where it is negative; None if no mask is.
        count: K.
        weight: W, float32 (out_channels, fan_in).
    """

    ones: Tensor
    negative: Tensor | None
    count: int
    weight: Tensor

    def __len__(self) -> int:
        return self.count

    @property
    def device(self) -> torch.device:
        return self.ones.device

    def one(self, index: int) -> Tensor:
        """M_k * W (out_channels, fan_in)."""
        byte, bit = divmod(index, 8)
        return self._unpacked(byte, slice(None), torch.tensor([bit]))[0] * self.weight

    def first(self, count: int) -> PackedMasks:
        return replace(self, count=count)

    def combine(self, coefficients: Tensor) -> Tensor:
        """(sum_k c_k M_k) * W (out_channels, fan_in), differentiable in the coefficients (K, groups of channels)."""
        return combine_summed(coefficients, self)

    def sums(self, coefficients: Tensor) -> Tensor:
        """(sum_k c_k M_k) * W of T tasks, (T, out_channels, fan_in), from coefficients (T, K, groups of channels)."""
        tasks, _, groups = coefficients.shape
        total = coefficients.new_zeros(tasks, *self.weight.shape)
        group = group_of_channel(len(self.weight), groups, self.device)
        for masks, rows, values in self._blocks():
            if groups == 1:
                total[:, rows] += (coefficients[:, masks, 0] @ values.flatten(1)).reshape(tasks, *values.shape[1:])
            else:
                total[:, rows] += torch.einsum("tko,koi->toi", coefficients[:, masks][:, :, group[rows]], values)
        return total * self.weight

    def slopes(self, gradients: Tensor, groups: int) -> Tensor:
        """Gradients by the coefficients (T, K, groups), of those by `sums` (T, out_channels, fan_in)."""
        weighted = gradients * self.weight
        channels = weighted.new_zeros(len(gradients), self.count, len(self.weight))
        for masks, rows, values in self._blocks():
            channels[:, masks, rows] = torch.einsum("toi,koi->tko", weighted[:, rows], values)
        return _by_group(channels, groups)

    def _blocks(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Which masks, which channels, and these masks there as float32 (masks, channels, fan_in)."""
        rows = max(1, _AT_ONCE // (8 * self.weight.shape[1]))
        for byte in range(-(-self.count // 8)):
            masks = slice(8 * byte, min(8 * byte + 8, self.count))
            bits = torch.arange(masks.stop - masks.start)
            for start in range(0, len(self.weight), rows):
                chosen = slice(start, start + rows)
                yield masks, chosen, self._unpacked(byte, chosen, bits)

    def _unpacked(self, byte: int, rows: slice, bits: Tensor) -> Tensor:
        shifts = bits.to(self.device, torch.uint8, non_blocking=True)[:, None, None]
        ones = (self.ones[byte, rows] >> shifts & 1).to(self.weight.dtype)
        if self.negative is None:
            return ones
        return ones - 2 * (self.negative[byte, rows] >> shifts & 1)


def stack_masks(masks: Sequence[Tensor], weight: Tensor) -> StackedMasks:
    """Masks of any types over `weight`, on its device."""
    if len({mask.dtype for mask in masks}) > 1:  # each is a factor of the weights
        masks = [mask.float() for mask in masks]
    stack = torch.stack(list(masks)) if masks else torch.zeros(0, *weight.shape, dtype=torch.bool)
    return StackedMasks((stack.to(weight.device) * weight).flatten(2))


def pack_masks(masks: Sequence[Tensor], weight: Tensor) -> PackedMasks:
    """Binary (bool) and signed (int8) masks over `weight`, on its device."""
    signed = any(mask.dtype != torch.bool for mask in masks)
    return PackedMasks(
        ones=_packed([mask != 0 for mask in masks]).flatten(2).to(weight.device),
        negative=_packed([mask < 0 for mask in masks]).flatten(2).to(weight.device) if signed else None,
        count=len(masks),
        weight=weight.flatten(1),
    )


def group_of_channel(out: int, groups: int, device: torch.device | None = None) -> Tensor:
    """Group of each output channel: contiguous groups whose sizes differ by at most one."""
    return torch.arange(out, device=device) * groups // out


def _by_group(channels: Tensor, groups: int) -> Tensor:
    """Sums (T, K, groups) of (T, K, channels)."""
    if groups == 1:
        return channels.sum(2, keepdim=True)
    group = group_of_channel(channels.shape[2], groups, channels.device)
    return channels.new_zeros(*channels.shape[:2], groups).index_add_(2, group, channels)


def _packed(masks: Sequence[Tensor]) -> Tensor:
    packed = torch.zeros(-(-len(masks) // 8), *masks[0].shape, dtype=torch.uint8)
    for number, mask in enumerate(masks):
        packed[number // 8] |= mask.to(torch.uint8) << number % 8
    return packed


class Summed(Protocol):
    """Masks of a layer that nothing is kept of for a way back but they themselves."""

    def sums(self, coefficients: Tensor) -> Tensor: ...
    def slopes(self, gradients: Tensor, groups: int) -> Tensor: ...


def combine_summed(coefficients: Tensor, masks: Summed) -> Tensor:
    """The sums of one task's coefficients (K, groups), differentiable in these."""
    combined: Tensor = _CombineSummed.apply(coefficients, masks)
    return combined


class _CombineSummed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, masks: Summed) -> Tensor:
        ctx.masks, ctx.groups = masks, coefficients.shape[1]
        return masks.sums(coefficients[None])[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.masks.slopes(gradients[0][None], ctx.groups)[0], None
