"""The tasks that images may be of: those stored as alpha, and those that masks were trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.records import alpha_columns
from impress_learn.basis import group_of_channel
from impress_learn.loaded import LoadedBank


@dataclass(frozen=True)
class Candidate:
    """One task: its reference, what it is called, and the mask that it is (None for a stored alpha).

    `holdout` is the share of training images that it was not trained on.
    """

    task: str
    name: str
    holdout: float
    mask: int | None = None


@dataclass(frozen=True, eq=False)
class Mixable:
    """Coefficients of T tasks over one basis, in a form in which they can be mixed.

    Attributes:
        alpha: float32 (T, K, columns); that of a mask's own task is 1 where the mask is, else 0.
        granularity: what the columns mean (effective_weights): the finest that is needed.
    """

    alpha: Tensor
    granularity: int

    def __len__(self) -> int:
        return len(self.alpha)

    def some(self, indices: Tensor) -> Mixable:
        """Those of some tasks."""
        return Mixable(self.alpha[indices], self.granularity)


@dataclass(frozen=True)
class Candidates:
    """T tasks to choose from, no two of one reference."""

    loaded: LoadedBank
    tasks: tuple[Candidate, ...]

    def __len__(self) -> int:
        return len(self.tasks)

    def weights(self, index: int) -> Mapping[str, Tensor]:
        """Effective weights of one task, and the norm statistics under them."""
        candidate = self.tasks[index]
        if candidate.mask is not None:
            return self.loaded.mask_weights(candidate.mask)
        return self.loaded.task_weights(candidate.name)

    @cached_property
    def mixable(self) -> Mixable:
        """Coefficients of all of them.

        Raises:
            FormatError: a task's file is damaged.
        """
        loaded = self.loaded
        layers, basis = loaded.bank.backbone.masked_layers, loaded.basis
        stored = [None if one.mask is not None else loaded.bank.read_task(one.name) for one in self.tasks]
        granularities = {task[0].granularity for task in stored if task is not None}
        common = common_granularity(granularities, [layer.shape[0] for layer in layers])
        rows = torch.zeros(len(self), len(basis), sum(alpha_columns(layers, common)))
        for row, candidate, task in zip(rows, self.tasks, stored, strict=True):
            if task is None:
                row[candidate.mask] = 1.0
            else:
                record, alpha = task
                channels = [layer.shape[0] for layer in layers]
                row[: len(alpha)] = refine(torch.from_numpy(alpha), channels, record.granularity, common)
        return Mixable(rows.to(basis.device), common)


def find_candidates(bank: Bank) -> tuple[Candidate, ...]:
    """Every stored task, and every task that a mask was trained for and none of these has.

    Of several stored tasks of one reference the first one stands for all.

    Raises:
        BankMismatch: fewer than two tasks: there is nothing to infer.
        FormatError: a file is damaged.
    """
    found: dict[str, Candidate] = {}
    for name in bank.task_names():
        record = bank.read_task_record(name)
        found.setdefault(record.task, Candidate(record.task, name, record.fit.holdout))
    for index, plan in enumerate(bank.manifest.masks):
        if plan.task is not None and plan.fit is not None:
            found.setdefault(plan.task, Candidate(plan.task, f"mask {index}", plan.fit.holdout, index))
    if len(found) < 2:
        raise BankMismatch(f"{bank.path} has {len(found)} task to choose from: inferring a task takes two or more")
    return tuple(found.values())


def common_granularity(granularities: set[int], channels: Sequence[int]) -> int:
    """The least granularity at which tasks of all these can be written without loss.

    That is the finest, where every other divides it: groups then lie within groups. Else it is one group a channel.
    """
    finest = max(granularities, default=1)
    nested = all(finest % one == 0 for one in granularities) or finest >= max(channels)
    return finest if nested else max(channels)


def refine(alpha: Tensor, channels: Sequence[int], granularity: int, finer: int) -> Tensor:
    """The same coefficients (K, columns) with a column for each finer group, which lies within a coarser one."""
    parts, start = [], 0
    for out in channels:
        coarse, fine = min(granularity, out), min(finer, out)
        first_channel = torch.searchsorted(group_of_channel(out, fine), torch.arange(fine))
        parts.append(alpha[:, start : start + coarse][:, group_of_channel(out, coarse)[first_channel]])
        start += coarse
    return torch.cat(parts, dim=1)
