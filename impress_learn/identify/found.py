"""The tasks that images may be of: those that are stored, and those that masks were trained for. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.operations.task_groups import TaskGroup, task_groups
from impress_format.parts.alpha import ALPHA
from impress_format.records.fields import SIGNATURE_BYTES
from impress_format.tasks.snapshot import natural_order

if TYPE_CHECKING:
    from impress_learn.recognition.feature_signature import Headed


@dataclass(frozen=True)
class Candidate:
    """One task: its reference, what it is called, and the mask that it is (None for a stored alpha)."""

    task: str
    name: str
    mask: int | None = None


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
