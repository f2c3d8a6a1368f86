"""Many masks of one layer, looked up: of up to 12 masks together a weight has one of 4,096 combinations, its code.

A combination's sum is computed once and looked up for every weight that has it, so that a step reads 4 bytes a weight
for 12 masks, where multiplying reads 48. On the way back, gradients of weights of one code are added up first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from impress_learn.masks.layer_masks import combine_summed, group_of_channel

_MOST_CODES = 1 << 12
"""Sums of one table: 16 kB, which stay in the nearest cache. Of 2,048 or 8,192 a step took longer."""
_SPREAD = 64
"""Places that the code of no mask at all has, behind the others: where a quarter of all weights add to one place, each
waits for the one before, and a step takes twice to six times as long."""


@dataclass(frozen=True, eq=False)
class CodedMasks:
    """K binary or signed masks, as codes: digits of base 2, or of base 3 where a mask is signed.

    Attributes:
        codes: int32 (tables, out_channels, fan_in); digit d of table t is mask `each` * t + d: 0, 1, or 2 for -1. Where
            all digits are 0 it is one of 64 places behind the codes.
        base: of the digits.
        each: digits of a table.
        count: K.
        weight: W, float32 (out_channels, fan_in).
    """

    codes: Tensor
    base: int
    each: int
    count: int
    weight: Tensor

    def __len__(self) -> int:
        return self.count

    @property
    def device(self) -> torch.device:
        return self.codes.device

    def one(self, index: int) -> Tensor:
        """M_k * W (out_channels, fan_in)."""
        table, digit = divmod(index, self.each)
        return self._digits[:, digit].index_select(0, self.codes[table].flatten()).view(self.weight.shape) * self.weight

    def first(self, count: int) -> CodedMasks:
        return replace(self, count=count)

    def combine(self, coefficients: Tensor) -> Tensor:
        """(sum_k c_k M_k) * W (out_channels, fan_in), differentiable in the coefficients (K, groups of channels)."""
        return combine_summed(coefficients, self)

    def sums(self, coefficients: Tensor) -> Tensor:
        """(sum_k c_k M_k) * W of T tasks, (T, out_channels, fan_in), from coefficients (T, K, groups of channels)."""
        total = coefficients.new_empty(len(coefficients), self.weight.numel())
        one = coefficients.new_empty(self.weight.numel())
        first, *others = self._places(coefficients.shape[2])
        for task, (table, *tables) in enumerate(self._tables(coefficients)):
            torch.index_select(table, 0, first, out=total[task])
            for more, place in zip(tables, others, strict=True):
                total[task] += torch.index_select(more, 0, place, out=one)
        return total.view(-1, *self.weight.shape).mul_(self.weight)

    def slopes(self, gradients: Tensor, groups: int) -> Tensor:
        """Gradients by the coefficients (T, K, groups), of those by `sums` (T, out_channels, fan_in)."""
        places, digits = self._places(groups), self._digits
        size = groups * len(digits)
        added = torch.stack(
            [
                torch.stack([torch.bincount(place, weighted, size) for place in places])
                for weighted in (gradients * self.weight).flatten(1)
            ]
        )
        tables = added.view(len(gradients), len(places), groups, -1)
        by_digit = torch.einsum("tpgc,cd->tpdg", tables, digits)
        return by_digit.reshape(len(gradients), -1, groups)[:, : self.count]

    @cached_property
    def _digits(self) -> Tensor:
        """What each digit of a code stands for, float32 (codes + 64, each)."""
        codes = torch.arange(self.base**self.each, device=self.device)[:, None]
        powers = self.base ** torch.arange(self.each, device=self.device)
        stands_for = torch.tensor([0.0, 1.0, -1.0], device=self.device)
        digits = stands_for[codes.div(powers, rounding_mode="floor") % self.base]
        return torch.cat([digits, digits.new_zeros(_SPREAD, self.each)])

    def _tables(self, coefficients: Tensor) -> Tensor:
        """Sums of all codes (T, tables, groups * codes), of coefficients (T, K, groups)."""
        tasks, masks, groups = coefficients.shape
        padded = coefficients.new_zeros(tasks, len(self.codes) * self.each, groups)
        padded[:, :masks] = coefficients
        tables = torch.einsum("tpdg,cd->tpgc", padded.view(tasks, len(self.codes), self.each, groups), self._digits)
        return tables.reshape(tasks, len(self.codes), -1)

    def _places(self, groups: int) -> Tensor:
        """Where in a table each weight's sum is, int32 (tables, weights): groups stand one after the other."""
        if groups == 1:
            return self.codes.flatten(1)
        group = group_of_channel(len(self.weight), groups, self.device).int()
        return (self.codes + (group * len(self._digits))[:, None]).flatten(1)


def code_masks(masks: Sequence[Tensor], weight: Tensor) -> CodedMasks:
    """Binary (bool) and signed (int8) masks over `weight`, on its device."""
    base = 2 if all(mask.dtype == torch.bool for mask in masks) else 3
    tables = count_tables(len(masks), base)
    each = -(-len(masks) // tables)
    codes = torch.zeros(tables, *weight.shape, dtype=torch.int32)
    for number, mask in enumerate(masks):
        table, digit = divmod(number, each)
        codes[table] += (mask.to(torch.int32) % base) * base**digit
    spread = base**each + torch.arange(weight.numel(), dtype=torch.int32).view(weight.shape) % _SPREAD
    codes = torch.where(codes == 0, spread, codes)
    return CodedMasks(codes.flatten(2).to(weight.device), base, each, len(masks), weight.flatten(1))


def count_tables(masks: int, base: int) -> int:
    """Into how many tables so many masks go, of codes with digits of this base."""
    most = next(digits for digits in range(1, 14) if base ** (digits + 1) > _MOST_CODES)
    return -(-masks // most)
