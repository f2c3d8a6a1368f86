"""The tasks that images may be of: those stored as alpha, and those that masks were trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.operations.task_groups import TaskGroup, task_groups
from impress_format.parts.alpha import ALPHA, alpha_columns
from impress_format.records.fields import SIGNATURE_BYTES
from impress_format.tasks.snapshot import natural_order
from impress_learn.masks.basis import common_granularity, refine
from impress_learn.network.backbone import Effective
from impress_learn.recognition.feature_signature import Headed
from impress_learn.recognition.signature_maker import Recognise, SignatureMaker
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.classes import TaskClasses, stored_classes


@dataclass(frozen=True)
class Candidate:
    """One task: its reference, what it is called, and the mask that it is (None for a stored alpha)."""

    task: str
    name: str
    mask: int | None = None


@dataclass(frozen=True, eq=False)
class Mixable:
    """Coefficients of T tasks over one basis, in a form in which they can be mixed.

    Attributes:
        alpha: float32 (T, K, columns); that of a mask's own task is 1 where the mask is, else 0.
        granularity: what the columns mean (effective_weights): the finest that is needed.
        classes: int (T,), how many each tells apart.
    """

    alpha: Tensor
    granularity: int
    classes: Tensor

    def __len__(self) -> int:
        return len(self.alpha)

    def some(self, indices: Tensor) -> Mixable:
        """Those of some tasks."""
        return Mixable(self.alpha[indices], self.granularity, self.classes[indices])


@dataclass(frozen=True, eq=False)
class Found:
    """T tasks to choose from, no two of one reference, and the coefficients of those that are stored.

    Attributes:
        stored: groups of tasks of one granularity: places among `tasks`, which of the group's rows they are, and the
            group.
        signatures: uint8 (T, 64); of zeros for a task that has none.
    """

    tasks: tuple[Candidate, ...]
    stored: tuple[tuple[Sequence[int], Sequence[int], TaskGroup], ...]
    signatures: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def mixable(self) -> bool:
        """Whether alpha is all that each has."""
        return all(group.only == ALPHA.name for _, _, group in self.stored)

    @property
    def headed(self) -> Headed:
        """The heads of those that have one."""
        return [(places, rows, group.heads) for places, rows, group in self.stored if group.heads is not None]

    @property
    def without_signature(self) -> Candidate | None:
        """The first task that has no signature."""
        without = np.flatnonzero(~self.signatures.any(axis=1))
        return self.tasks[without[0]] if len(without) else None


@dataclass(frozen=True)
class Candidates:
    """T tasks to choose from, over a bank in memory."""

    loaded: RunningBank
    found: Found

    def __len__(self) -> int:
        return len(self.found)

    @property
    def tasks(self) -> tuple[Candidate, ...]:
        return self.found.tasks

    def weights(self, index: int) -> Effective:
        """Effective weights of one task, and the norm statistics under them."""
        candidate = self.tasks[index]
        if candidate.mask is not None:
            return self.loaded.mask_weights(candidate.mask)
        return self.loaded.task_weights(candidate.name)

    def classes(self, index: int) -> TaskClasses:
        """The classes that one task tells apart."""
        candidate, bank = self.tasks[index], self.loaded.bank
        record = None if candidate.mask is not None else bank.read_task_record(candidate.name)
        return stored_classes(bank, candidate.task, record)

    @cached_property
    def counts(self) -> list[int]:
        """How many classes each task tells apart."""
        counts = [
            0 if candidate.mask is None else self.classes(place).count for place, candidate in enumerate(self.tasks)
        ]
        for places, _, group in self.found.stored:
            for place in places:
                counts[place] = group.classes
        return counts

    @property
    def has_signatures(self) -> bool:
        """Whether all of them have a signature."""
        return self.loaded.signature_maker is not None and self.found.without_signature is None

    @cached_property
    def recognise(self) -> Recognise:
        """What compares images with all of them.

        Raises:
            BankMismatch: one has no signature.
        """
        return self.check_has_signatures().known(self.found.signatures, self.found.headed)

    def check_has_signatures(self) -> SignatureMaker:
        """What the signatures of all of them were made with.

        Raises:
            BankMismatch: one has no signature.
        """
        if (signature_maker := self.loaded.signature_maker) is None or (
            without_signature := self.found.without_signature
        ) is not None:
            which = "it has no recogniser" if signature_maker is None else f"{without_signature.name} has none"  # type: ignore[union-attr]
            raise BankMismatch(
                f"{self.loaded.bank.path}: signatures of all tasks are needed, and {which}: try `method` exhaustive"
            )
        return signature_maker

    @cached_property
    def mixable(self) -> Mixable:
        """Coefficients of all of them.

        Raises:
            BankMismatch: one has a head, a residual, a mask of its own or masks that vote, which no mixture has.
        """
        if not self.found.mixable:
            raise BankMismatch(
                f"{self.loaded.bank.path} has tasks with a head, a residual, a mask of their own or masks that vote, "
                "which cannot be mixed: try `method` signature, or exhaustive"
            )
        layers, basis = self.loaded.bank.backbone.masked_layers, self.loaded.basis
        channels = [layer.shape[0] for layer in layers]
        common = common_granularity({group.granularity for _, _, group in self.found.stored}, channels)
        alpha = torch.zeros(len(self), len(basis), sum(alpha_columns(layers, common)))
        for places, rows, group in self.found.stored:
            chosen = torch.from_numpy(group.alpha(np.asarray(rows, dtype=np.intp)))
            alpha[list(places), : chosen.shape[1]] = refine(chosen, channels, group.granularity, common)
        for place, candidate in enumerate(self.tasks):
            if candidate.mask is not None:
                alpha[place, candidate.mask] = 1.0
        return Mixable(alpha.to(basis.device), common, torch.tensor(self.counts, device=basis.device))


def find_candidates(bank: Bank) -> Found:
    """Every stored task, in the order of their names, and every task that a mask was trained for and none of these has.

    Of several stored tasks of one reference the first one stands for all.

    Raises:
        BankMismatch: fewer than two tasks: there is nothing to infer.
        FormatError: a file is damaged.
    """
    groups = list(task_groups(bank))
    summaries = sorted(
        ((one, number, row) for number, group in enumerate(groups) for row, one in enumerate(group.summaries)),
        key=lambda entry: natural_order(entry[0].name),
    )
    found: dict[str, Candidate] = {}
    rows: list[tuple[list[int], list[int]]] = [([], []) for _ in groups]
    for summary, number, row in summaries:
        if summary.task not in found:
            rows[number][0].append(len(found))
            rows[number][1].append(row)
            found[summary.task] = Candidate(summary.task, summary.name)
    for index, plan in enumerate(bank.manifest.masks):
        if plan.task is not None:
            found.setdefault(plan.task, Candidate(plan.task, f"mask {index}", index))
    if len(found) < 2:
        raise BankMismatch(_nothing_to_infer(bank, [summary.name for summary, _, _ in summaries]))
    stored = tuple((*places, group) for places, group in zip(rows, groups, strict=True) if places[0])
    signatures = np.zeros((len(found), SIGNATURE_BYTES), dtype=np.uint8)
    for places, chosen, group in stored:
        if group.signatures is not None:
            signatures[places] = group.signatures[chosen]
    for place, candidate in enumerate(found.values()):
        if candidate.mask is not None and (signature := bank.read_mask_signature(candidate.mask)) is not None:
            signatures[place] = signature
    return Found(tuple(found.values()), stored, signatures)


def only_task(bank: Bank) -> str | None:
    """The name of the stored task of a bank that has no other, and no mask that was trained for another.

    Raises:
        FormatError: a file is damaged.
    """
    if len(names := bank.task_names()) != 1:
        return None
    trained_for = {plan.task for plan in bank.manifest.masks if plan.task is not None}
    return names[0] if trained_for <= {bank.read_task_record(names[0]).task} else None


def _nothing_to_infer(bank: Bank, stored: Sequence[str]) -> str:
    """What is said where there are not two tasks to choose from."""
    more = "add another with `impress task add`"
    if len(stored) > 1:
        return f"{bank.path} has tasks of one reference alone ({', '.join(stored[:8])}): give the name of one"
    if stored:
        return f"{bank.path} has one task, {stored[0]}, and inferring which takes two or more: {more}"
    if any(plan.task is not None for plan in bank.manifest.masks):
        return f"{bank.path} has one task, that of a mask, none stored, and inferring which takes two or more: {more}"
    return f"{bank.path} has no task: add one with `impress task add`"
