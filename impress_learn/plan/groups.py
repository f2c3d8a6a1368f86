"""Which tasks of one command are learned together: the command says, never the machine.

Tasks of one stream are put in the order of their keys and cut into groups of up to 128, which have nothing to do with
each other. Of a group eight are its pilots: by these is found in how many steps the others are learned
(docs/method.md, Many tasks).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from impress_format.bank import Bank
from impress_format.parts.alpha import ALPHA
from impress_format.parts.signature import SIGNATURE
from impress_format.tasks.snapshot import natural_order
from impress_learn.parts.table import names_of
from impress_learn.plan.few import FEW
from impress_learn.plan.tasks import TaskRequest
from impress_learn.streams.held_out import count_training

LEAST = 32
"""Tasks from which on they are learned together: of fewer most would be pilots."""
_GROUP, _TOGETHER = 128, 8
"""Tasks of a group, and of these that are learned in one loop."""


@dataclass(frozen=True, eq=False)
class Group:
    """Tasks that are alike: eight pilots, evenly spread, and the others, in order."""

    pilots: tuple[TaskRequest, ...]
    others: tuple[TaskRequest, ...]

    @property
    def all(self) -> tuple[TaskRequest, ...]:
        return self.pilots + self.others

    def waves(self) -> Iterator[tuple[TaskRequest, ...]]:
        """The others, as many at a time as are learned in one loop."""
        for start in range(0, len(self.others), _TOGETHER):
            yield self.others[start : start + _TOGETHER]


def group_tasks(bank: Bank, requests: Sequence[TaskRequest]) -> tuple[list[Group], list[TaskRequest]]:
    """The groups among all that one command asks for, and the tasks that are learned alone, as they come.

    Together are learned 32 or more tasks of one stream that are coefficients alone, of 1,000 images or more.
    """
    alike: dict[tuple[object, ...], list[TaskRequest]] = {}
    for request in requests:
        if _may_be_grouped(bank, request):
            stream, data_set = request.reference.stream.name, request.reference.data_set.name
            alike.setdefault((stream, data_set, request.fit, request.parts, request.classes), []).append(request)
    many = [tasks for tasks in alike.values() if len(tasks) >= LEAST]
    grouped = {request.name for tasks in many for request in tasks}
    return [group for tasks in many for group in _groups(tasks)], [one for one in requests if one.name not in grouped]


def _may_be_grouped(bank: Bank, request: TaskRequest) -> bool:
    if bank.manifest.format_version == 1 or request.start is not None or request.instead is not None:
        return False
    images = count_training(request.reference.data_set, request.fit.holdout, request.fit.shots)
    return images >= FEW and set(names_of(request.parts)) - {SIGNATURE.name} == {ALPHA.name}


def _groups(tasks: Sequence[TaskRequest]) -> Iterator[Group]:
    ordered = sorted(tasks, key=lambda one: natural_order(str(one.reference.key)))
    for first, last in pairwise(_cuts(len(ordered), -(-len(ordered) // _GROUP))):
        some = ordered[first:last]
        pilots = set(_cuts(len(some), _TOGETHER)[:-1])
        yield Group(
            tuple(one for place, one in enumerate(some) if place in pilots),
            tuple(one for place, one in enumerate(some) if place not in pilots),
        )


def _cuts(length: int, parts: int) -> list[int]:
    """Where so many even parts begin and end."""
    return [place * length // parts for place in range(parts + 1)]
