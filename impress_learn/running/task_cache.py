"""Tasks kept at hand for `mixed`: of very many, each found by its name without a file being opened or checked again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.operations.task_groups import AlphaOf, HeadsOf, head_of_one, task_groups
from impress_format.parts.alpha import ALPHA, coefficients_of
from impress_format.parts.head import HEAD
from impress_format.tasks.file import StoredTask


@dataclass(frozen=True, eq=False)
class TaskBatch:
    """Tasks alike: rows of alpha of one granularity, or of heads of one shape; how many classes each has."""

    alpha: AlphaOf
    granularity: int
    heads: HeadsOf | None
    classes: int

    @staticmethod
    def of_one(stored: StoredTask, classes: int) -> TaskBatch:
        """A task that was read: its row is 0."""
        head, alpha = HEAD.of(stored), coefficients_of(stored)
        rows = np.zeros((1, 0, 0), np.float32) if alpha is None else alpha[np.newaxis]
        heads = None if head is None else head_of_one(head)
        return TaskBatch(rows.__getitem__, stored.record.settings.alpha.granularity, heads, classes)


@dataclass(frozen=True, eq=False)
class TaskCache:
    """All tasks of a bank that have coefficients alone or a head alone, as they were when they were kept.

    Packs stay where they are, mapped into memory; what is held of a packed task is its name and where it is.

    Attributes:
        bank: its folder.
        places: name -> number, counted through all batches.
        starts: int (batches,), the number of the first task of each.
    """

    bank: Path
    batches: Sequence[TaskBatch]
    starts: npt.NDArray[np.intp]
    places: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def find(self, names: Sequence[str]) -> Iterator[tuple[TaskBatch, npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
        """The batches that hold these tasks: which of `names` are in it, and their rows there."""
        numbers = np.fromiter((self.places[name] for name in names), dtype=np.intp, count=len(names))
        found = np.searchsorted(self.starts, numbers, side="right") - 1
        for index in np.unique(found):
            chosen = np.flatnonzero(found == index)
            yield self.batches[index], chosen, numbers[chosen] - self.starts[index]


def cache_tasks(bank: Bank) -> TaskCache:
    """Find and check all tasks once, a second for some 300,000 small ones.

    A task that is changed or removed later goes on as it was, one that is stored later is not among them: keep again.

    Raises:
        FormatError: a file is damaged.
        StorageError: a folder may not be read.
    """
    batches: list[TaskBatch] = []
    starts: list[int] = []
    places: dict[str, int] = {}
    number = 0
    for group in task_groups(bank):
        if group.only in (ALPHA.name, HEAD.name):
            batches.append(TaskBatch(group.alpha, group.granularity, group.heads, group.classes))
            starts.append(number)
            places.update((summary.name, number + row) for row, summary in enumerate(group.summaries))
        number += len(group.summaries)
    return TaskCache(bank.path, batches, np.array(starts, dtype=np.intp), places)
