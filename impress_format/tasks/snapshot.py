"""The tasks of a bank as they lay on disk at one moment, and what a list shows of those in packs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from impress_format.errors import FormatError
from impress_format.parts.numbers import NumbersError
from impress_format.parts.table import facts_of
from impress_format.records.manifest import BankManifest
from impress_format.tasks.file import TaskSummary
from impress_format.tasks.pack import OWN_END, SHARED_HEADER_OF, SHARED_HEADERS, SHARED_HEADERS_END, Pack
from impress_format.tasks.record import Images

_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The tasks as they lay on disk at one moment; packs are open, and stay readable when their files are deleted.

    Attributes:
        loose: names of the loose tasks; a file of one may be gone since, into a pack or for good.
        removed: names that are marked as removed from the packs.
    """

    loose: tuple[str, ...]
    removed: frozenset[str]
    packs: tuple[Pack, ...]

    @cached_property
    def hidden(self) -> frozenset[str]:
        """Names that rows of packs do not count for."""
        return self.removed.union(self.loose)

    def names(self) -> list[str]:
        """Names of all tasks, sorted as people count: task-9 before task-10.

        Raises:
            FormatError: a pack is damaged.
        """
        hidden, names = set(self.hidden), list(self.loose)
        for pack in self.packs:
            names += [own[0] for own in pack.owns() if own[0] not in hidden]
            if len(self.packs) > 1:  # an interrupted `pack_tasks` leaves one task in two packs
                hidden.update(names)
        return sorted(names, key=natural_order)

    def summaries(self, manifest: BankManifest) -> list[TaskSummary]:
        """What a list shows of every packed task.

        Raises:
            FormatError: a pack is damaged.
        """
        hidden, found = set(self.hidden), list[TaskSummary]()
        for pack in self.packs:
            found += [one for one in summarise_pack(pack, manifest) if one.name not in hidden]
            if len(self.packs) > 1:
                hidden.update(one.name for one in found)
        return found


def summarise_pack(pack: Pack, manifest: BankManifest) -> list[TaskSummary]:
    """What a list shows of every task in a pack, fast: texts are decoded, and nothing is compared with its checksum.

    Raises:
        FormatError: texts are damaged, or alpha is of no shape.
    """
    shared = [_shared(pack, index, manifest) for index in range(len(pack.columns[SHARED_HEADERS_END]))]
    of = pack.columns[SHARED_HEADER_OF]
    if int(of.max()) >= len(shared):
        raise FormatError(pack.path, f"{SHARED_HEADER_OF} has common text {of.max()}, there is none")
    owns = pack.owns()
    sizes = (np.diff(pack.columns[OWN_END].astype(np.int64), prepend=0) + pack.row_bytes).tolist()
    return [
        TaskSummary(
            task=task,
            name=name,
            facts=facts,
            bytes=size,
            accuracy=accuracy,
            train_accuracy=train_accuracy,
            images=images,
        )
        for (name, task, accuracy, train_accuracy), size, (facts, images) in zip(
            owns, sizes, map(shared.__getitem__, of.tolist()), strict=True
        )
    ]


def natural_order(name: str) -> str:
    """A key that sorts task-9 before task-10."""
    return f"{_DIGITS.sub(_padded, name)} {name}"


def _padded(digits: re.Match[str]) -> str:
    return digits[0].zfill(12)


def _shared(pack: Pack, index: int, manifest: BankManifest) -> tuple[Mapping[str, int], Images]:
    """What a list shows of the tasks with this common text, and what their accuracy was measured on."""
    shared_header = pack.shared_header(index)
    try:
        facts = facts_of(pack.path, pack.shapes, shared_header.settings, manifest)
    except NumbersError as error:
        raise FormatError(pack.path, f"{SHARED_HEADERS}[{index}] does not describe its tasks ({error})") from error
    return facts, shared_header.images
