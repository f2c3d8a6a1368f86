"""All coefficients of a bank's tasks at once: 100,000 of them are read in a second (docs/format.md, Packs)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from impress_format.bank import Bank
from impress_format.errors import FormatError
from impress_format.numbers import FloatArray, NumbersError, restore_all
from impress_format.pack_file import COMMON, COMMON_END, COMMON_OF, Pack, check_seal
from impress_format.task_file import ALPHA, TaskOutline, check_basis, count_columns
from impress_format.task_store import outline_pack


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskGroup:
    """Tasks of one granularity over the same masks.

    Attributes:
        outlines: N of them.
        alpha: float32 (N, K, columns).
    """

    outlines: Sequence[TaskOutline]
    alpha: FloatArray
    granularity: int


def task_groups(bank: Bank) -> Iterator[TaskGroup]:
    """Every stored task once, in groups; a pack is checked by its own checksum, a loose task as `read_task` does.

    Raises:
        FormatError: a file is damaged, or belongs to another basis.
        StorageError: a folder may not be read.
    """
    loose, removed = bank.tasks.loose()
    hidden = {*loose, *removed}
    for pack in bank.tasks.packs():
        check_seal(pack)
        outlines = outline_pack(pack, bank.manifest)
        kept = np.array([one.name not in hidden for one in outlines])
        hidden.update(one.name for one in outlines)
        for index in range(len(pack.columns[COMMON_END])):
            (rows,) = np.nonzero(kept & (pack.columns[COMMON_OF] == index))
            if len(rows):
                yield _group(bank, pack, index, rows, outlines)
    for name in loose:
        if bank.tasks.has(name):
            record, alpha = bank.read_task(name)
            outline = bank.outline_task(name)
            yield TaskGroup(outlines=(outline,), alpha=alpha[np.newaxis], granularity=record.granularity)


def _group(
    bank: Bank, pack: Pack, index: int, rows: np.ndarray[tuple[int], np.dtype[np.intp]], outlines: list[TaskOutline]
) -> TaskGroup:
    """The tasks in these rows, which have the same common text."""
    basis, _, granularity = pack.alike(index)
    if ALPHA not in pack.parts:
        raise FormatError(pack.path, f"holds {sorted(pack.parts)}, expected alpha")
    try:
        alpha = restore_all(pack.parts[ALPHA][rows], count_columns(bank.manifest, granularity))
    except NumbersError as error:
        raise FormatError(pack.path, f"alpha of the tasks of {COMMON}[{index}] {error}") from error
    check_basis(pack.path, basis, alpha.shape[1], bank.manifest, bank.basis_digest)
    return TaskGroup(outlines=[outlines[row] for row in rows], alpha=alpha, granularity=granularity)
