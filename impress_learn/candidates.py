"""The tasks an image may belong to: those stored as alpha, and the masks' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from impress_format.errors import BankMismatch, TaskNotFound
from impress_format.records import alpha_columns
from impress_learn.combine import effective_weights, group_of_channel
from impress_learn.evaluate import LoadedBank
from impress_learn.identity import Places, decode_signatures


@dataclass(frozen=True, eq=False)
class Mixable:
    """Coefficients of several tasks over one basis, in a form in which they can be mixed.

    Attributes:
        alpha: float32 (T, K, columns); the row of a mask's own task is 1 where the mask is, else 0.
        granularity: what the columns mean (effective_weights): the finest of these tasks'.
    """

    alpha: Tensor
    granularity: int


@dataclass(frozen=True)
class Candidates:
    """T tasks to choose from, read when they are needed: 100,000 of them are as many files.

    Attributes:
        names: of the stored task, or `mask K` for the task that a mask was trained for.
        references: the data of each.
        masks: for each, the index of its mask, or None for a stored task.
        signatures: of each; None if it has none.
    """

    loaded: LoadedBank
    names: tuple[str, ...]
    references: tuple[str, ...]
    masks: tuple[int | None, ...]
    signatures: tuple[bytes | None, ...]

    def __len__(self) -> int:
        return len(self.names)

    def find(self, task: str) -> int:
        """The index of the task of this name or reference.

        Raises:
            TaskNotFound: it is none of these.
        """
        for texts in (self.names, self.references):
            if task in texts:
                return texts.index(task)
        raise TaskNotFound(f"{self.loaded.bank.path} has no task {task!r}, stored or of a mask")

    @cached_property
    def places(self) -> Places | None:
        """Decoded signatures; None if a task has none, since it could then never be found."""
        identifier = self.loaded.identifier
        known = [signature for signature in self.signatures if signature is not None]
        return decode_signatures(identifier, known) if identifier and len(known) == len(self) else None

    @cached_property
    def mixable(self) -> Mixable:
        """All of them."""
        return self.alphas(range(len(self)))

    def alphas(self, indices: Sequence[int]) -> Mixable:
        """Some of them, brought to the finest granularity among them.

        Raises:
            FormatError: a task's file is damaged.
        """
        loaded = self.loaded
        layers, basis = loaded.bank.backbone.masked_layers, loaded.basis
        stored = [None if self.masks[index] is not None else loaded.bank.read_task(self.names[index])
                  for index in indices]  # fmt: skip
        finest = max((task[0].granularity for task in stored if task), default=1)
        rows = torch.zeros(len(indices), len(basis), sum(alpha_columns(layers, finest)))
        for row, index, task in zip(rows, indices, stored, strict=True):
            if task is None:
                row[self.masks[index]] = 1.0
            else:
                record, alpha = task
                refined = _refine(torch.from_numpy(alpha), [at.shape[0] for at in layers], record.granularity, finest)
                row[: len(alpha)] = refined
        return Mixable(rows.to(basis.device), finest)

    def weights(self, index: int) -> dict[str, Tensor]:
        """Effective weights of one task."""
        mask = self.masks[index]
        return self.loaded.task_weights(self.names[index]) if mask is None else self.loaded.mask_weights(mask)


def find_candidates(loaded: LoadedBank, names: Sequence[str], *, masks: bool) -> Candidates:
    """The stored tasks `names`, and with `masks` every task that a mask was trained for and none of these has.

    Raises:
        BankMismatch: fewer than two tasks: there is nothing to infer.
        FormatError: a file is damaged.
    """
    bank = loaded.bank
    records = [bank.read_task_record(name) for name in names]
    found: dict[str, tuple[str, int | None, bytes | None]] = {}
    for record in records:
        found.setdefault(record.task, (record.name, None, record.signature))
    for index, plan in enumerate(bank.manifest.masks if masks else ()):
        if plan.task is not None and plan.task not in found:
            found[plan.task] = (f"mask {index}", index, bank.read_mask_record(index).signature)
    if len(found) < 2:
        raise BankMismatch(f"{bank.path} has {len(found)} task to choose from: inferring a task takes two or more")
    return Candidates(
        loaded=loaded,
        names=tuple(name for name, _, _ in found.values()),
        references=tuple(found),
        masks=tuple(mask for _, mask, _ in found.values()),
        signatures=tuple(signature for _, _, signature in found.values()),
    )


def mixed_weights(loaded: LoadedBank, alpha: Tensor, granularity: int) -> dict[str, Tensor]:
    """Effective weights of coefficients (K, columns), differentiable."""
    return effective_weights(loaded.basis, alpha, granularity)


def _refine(alpha: Tensor, channels: Sequence[int], granularity: int, finest: int) -> Tensor:
    """The same task at a finer granularity: each finer group takes the coefficients of the channels it holds.

    A finer group lies within one coarser group only if the finer number is a multiple of the coarser, or is that of
    the channels; else it takes those of its first channel, and mixtures are approximate.
    """
    if granularity == finest:
        return alpha
    parts = []
    start = 0
    for out in channels:
        coarse, fine = min(granularity, out), min(finest, out)
        groups = group_of_channel(out, fine)
        first = torch.searchsorted(groups, torch.arange(fine))
        parts.append(alpha[:, start : start + coarse][:, group_of_channel(out, coarse)[first]])
        start += coarse
    return torch.cat(parts, dim=1)
