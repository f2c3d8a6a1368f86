"""All of a bank's tasks at once, in groups of alike ones: 100,000 are checked in a second (docs/format.md, Packs)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.errors import FormatError
from impress_format.parts.alpha import ALPHA, count_columns, matrix_of, restore_alphas
from impress_format.parts.head import HEAD, StoredHead, restore_heads
from impress_format.parts.numbers import FloatArray, NumbersError
from impress_format.parts.part import Part
from impress_format.parts.signature import SIGNATURE
from impress_format.parts.table import (
    beside,
    check_basis,
    check_present,
    check_settings,
    count_classes,
    count_masks,
    only_part,
    settings_of,
)
from impress_format.tasks.file import TaskSummary, read_task, summarise_task
from impress_format.tasks.pack import SHARED_HEADER_OF, SHARED_HEADERS, SHARED_HEADERS_END, Pack
from impress_format.tasks.pack_seal import check_seal
from impress_format.tasks.snapshot import summarise_pack

AlphaOf = Callable[[npt.NDArray[np.intp]], FloatArray]
"""Rows (n,) -> their coefficients, float32 (n, K, columns)."""
HeadsOf = Callable[[npt.NDArray[np.intp]], StoredHead]
"""Rows (n,) -> their heads: weight (n, C, D), bias (n, C)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskGroup:
    """Tasks of one granularity over the same masks.

    Attributes:
        summaries: N of them.
        alpha: those of its rows, all of one shape, read when they are asked for; K is 0 where no mask is weighed.
        signatures: uint8 (N, 64), or None if these tasks have none.
        heads: likewise; None if these tasks have none.
        only: the part that is all that each has, beside labels; None if it is more.
        classes: that each tells apart.
    """

    summaries: Sequence[TaskSummary]
    alpha: AlphaOf
    granularity: int
    signatures: npt.NDArray[np.uint8] | None
    heads: HeadsOf | None
    only: str | None
    classes: int


def task_groups(bank: Bank) -> Iterator[TaskGroup]:
    """Every stored task once, in groups; a pack is checked by its own checksum, a loose task as `read_task` does.

    Raises:
        FormatError: a file is damaged, or belongs to another basis.
        StorageError: a folder may not be read.
    """
    present = bank.tasks.snapshot()
    hidden = set(present.hidden)
    for pack in present.packs:
        check_seal(pack)
        summaries = summarise_pack(pack, bank.manifest)
        kept = np.array([one.name not in hidden for one in summaries])
        hidden.update(one.name for one in summaries)
        for index in range(len(pack.columns[SHARED_HEADERS_END])):
            (rows,) = np.nonzero(kept & (pack.columns[SHARED_HEADER_OF] == index))
            if len(rows):
                yield _group(bank, pack, index, rows, summaries)
    for name in present.loose:
        if (file := bank.tasks.read(name)) is not None:  # else removed meanwhile
            path, content, size = file
            stored = read_task(path, content, name, bank.manifest, bank.identity)
            head, signature = HEAD.of(stored), SIGNATURE.of(stored)
            settings = stored.record.settings
            yield TaskGroup(
                summaries=(summarise_task(path, content, bank.manifest, size),),
                alpha=matrix_of(stored, settings.alpha, bank.backbone)[np.newaxis].__getitem__,
                granularity=settings.alpha.granularity,
                signatures=None if signature is None else np.frombuffer(signature, dtype=np.uint8)[np.newaxis],
                heads=None if head is None else head_of_one(head),
                only=stored.only,
                classes=count_classes(bank.manifest, settings),
            )


def _group(
    bank: Bank, pack: Pack, index: int, rows: np.ndarray[tuple[int], np.dtype[np.intp]], summaries: list[TaskSummary]
) -> TaskGroup:
    """The tasks in these rows, which have the same common text."""
    shared_header = pack.shared_header(index)
    check_present(pack.path, pack.parts, bank.manifest.format_version)
    check_settings(pack.path, pack.parts, shared_header.settings, bank.manifest)
    around = beside(bank.manifest, shared_header.settings, pack.parts)
    own, columns = (
        shared_header.settings,
        count_columns(bank.backbone, shared_header.settings.alpha.granularity, but_last=False),
    )

    def alpha(some: npt.NDArray[np.intp]) -> FloatArray:
        if ALPHA.name not in pack.parts:
            return np.zeros((len(some), 0, columns), dtype=np.float32)
        return restore_alphas(pack.parts[ALPHA.name][rows[some]], own.alpha, around)

    def heads(some: npt.NDArray[np.intp]) -> StoredHead:
        return restore_heads(pack.parts[HEAD.name][rows[some]], own.head.bits, around.classes, bank.directions)

    def check(part: Part[Any, Any]) -> None:  # read once, to know that all can be
        try:
            part.check(pack.parts[part.name][rows], settings_of(part, own), around, bank.identity)
        except NumbersError as error:
            raise FormatError(pack.path, f"{part.name} of the tasks of {SHARED_HEADERS}[{index}] {error}") from error

    if ALPHA.name in pack.parts:
        check(ALPHA)
    masks = count_masks(pack.shapes, own, around)
    check_basis(pack.path, shared_header.basis, masks, pack.parts, bank.manifest, bank.identity)
    for part in (SIGNATURE, HEAD):
        if part.name in pack.parts:
            check(part)
    signatures = pack.parts.get(SIGNATURE.name)
    return TaskGroup(
        summaries=[summaries[row] for row in rows],
        alpha=alpha,
        granularity=own.alpha.granularity,
        signatures=None if signatures is None else signatures[rows].astype(np.uint8),
        heads=heads if HEAD.name in pack.parts else None,
        only=only_part(pack.parts),
        classes=around.classes,
    )


def head_of_one(head: StoredHead) -> HeadsOf:
    """What gives the head of a task alone: its row is 0."""
    return lambda rows: StoredHead(head.weight[np.newaxis][rows], head.bias[np.newaxis][rows])
