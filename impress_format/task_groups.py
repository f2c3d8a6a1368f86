"""All of a bank's tasks at once, in groups of alike ones: 100,000 are checked in a second (docs/format.md, Packs)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.errors import FormatError
from impress_format.head import StoredHead, check_heads, restore_heads
from impress_format.numbers import FloatArray, NumbersError, restore_all
from impress_format.pack_file import COMMON, COMMON_END, COMMON_OF, Pack, check_seal
from impress_format.task_file import TaskOutline, outline_task, read_task
from impress_format.task_parts import (
    ALPHA,
    CLASSES,
    HEAD,
    MASK,
    SIGNATURE,
    OnlyPart,
    Said,
    check_basis,
    check_parts,
    check_said,
    check_signatures,
    count_classes,
    count_columns,
)
from impress_format.task_store import outline_pack

_ONLY: Final[Mapping[frozenset[str], OnlyPart]] = {
    frozenset({ALPHA}): "alpha",
    frozenset({HEAD}): "head",
}
AlphaOf = Callable[[npt.NDArray[np.intp]], FloatArray]
"""Rows (n,) -> their coefficients, float32 (n, K, columns)."""
HeadsOf = Callable[[npt.NDArray[np.intp]], StoredHead]
"""Rows (n,) -> their heads: weight (n, C, D), bias (n, C)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskGroup:
    """Tasks of one granularity over the same masks.

    Attributes:
        outlines: N of them.
        alpha: those of its rows, all of one shape, read when they are asked for; K is 0 where no mask is weighed.
        signatures: uint8 (N, 64), or None if these tasks have none.
        heads: likewise; None if these tasks have none.
        only: what is all that each has, beside a signature; None if it is more.
        classes: that each tells apart.
    """

    outlines: Sequence[TaskOutline]
    alpha: AlphaOf
    granularity: int
    signatures: npt.NDArray[np.uint8] | None
    heads: HeadsOf | None
    only: OnlyPart | None
    classes: int


def task_groups(bank: Bank) -> Iterator[TaskGroup]:
    """Every stored task once, in groups; a pack is checked by its own checksum, a loose task as `read_task` does.

    Raises:
        FormatError: a file is damaged, or belongs to another basis.
        StorageError: a folder may not be read.
    """
    there = bank.tasks.snapshot()
    hidden = set(there.hidden)
    for pack in there.packs:
        check_seal(pack)
        outlines = outline_pack(pack, bank.manifest)
        kept = np.array([one.name not in hidden for one in outlines])
        hidden.update(one.name for one in outlines)
        for index in range(len(pack.columns[COMMON_END])):
            (rows,) = np.nonzero(kept & (pack.columns[COMMON_OF] == index))
            if len(rows):
                yield _group(bank, pack, index, rows, outlines)
    for name in there.loose:
        if (file := bank.tasks.read(name)) is not None:  # else removed meanwhile
            path, content, size = file
            stored = read_task(path, content, name, bank.manifest, bank.ties)
            signed = stored.signature
            yield TaskGroup(
                outlines=(outline_task(path, content, bank.manifest, size),),
                alpha=stored.alpha[np.newaxis].__getitem__,
                granularity=stored.record.granularity,
                signatures=None if signed is None else np.frombuffer(signed, dtype=np.uint8)[np.newaxis],
                heads=None if stored.head is None else head_of_one(stored.head),
                only=stored.only,
                classes=count_classes(bank.manifest, stored.record),
            )


def _group(
    bank: Bank, pack: Pack, index: int, rows: np.ndarray[tuple[int], np.dtype[np.intp]], outlines: list[TaskOutline]
) -> TaskGroup:
    """The tasks in these rows, which have the same common text."""
    alike = pack.alike(index)
    check_parts(pack.path, pack.parts)
    check_said(pack.path, pack.parts, alike, bank.backbone)
    columns = count_columns(bank.manifest, alike.granularity, hybrid=MASK in pack.parts)

    def alpha(some: npt.NDArray[np.intp]) -> FloatArray:
        if ALPHA not in pack.parts:
            return np.zeros((len(some), 0, columns), dtype=np.float32)
        return restore_all(pack.parts[ALPHA][rows[some]], columns)

    try:
        masks = alpha(np.arange(len(rows))).shape[1]  # read once, to know that all can be
    except NumbersError as error:
        raise FormatError(pack.path, f"alpha of the tasks of {COMMON}[{index}] {error}") from error
    check_basis(pack.path, alike.basis, masks, HEAD in pack.parts, bank.manifest, bank.ties)
    signatures = None
    if (column := pack.parts.get(SIGNATURE)) is not None:
        check_signatures(pack.path, column, bank.ties)
        signatures = column[rows].astype(np.uint8)
    return TaskGroup(
        outlines=[outlines[row] for row in rows],
        alpha=alpha,
        granularity=alike.granularity,
        signatures=signatures,
        heads=_heads_of(bank, pack, alike, rows) if HEAD in pack.parts else None,
        only=_ONLY.get(frozenset(pack.parts) - {CLASSES, SIGNATURE}),
        classes=count_classes(bank.manifest, alike),
    )


def head_of_one(head: StoredHead) -> HeadsOf:
    """What gives the head of a task alone: its row is 0."""
    return lambda rows: StoredHead(head.weight[np.newaxis][rows], head.bias[np.newaxis][rows])


def _heads_of(bank: Bank, pack: Pack, alike: Said, rows: npt.NDArray[np.intp]) -> HeadsOf:
    """Those of tasks in these rows of a pack."""
    classes, most = count_classes(bank.manifest, alike), bank.directions
    try:
        check_heads(pack.parts[HEAD][rows], alike.head_bits, classes, most)
    except NumbersError as error:
        raise FormatError(pack.path, f"head of some of its tasks {error}") from error

    def heads(some: npt.NDArray[np.intp]) -> StoredHead:
        return restore_heads(pack.parts[HEAD][rows[some]], alike.head_bits, classes, most)

    return heads
