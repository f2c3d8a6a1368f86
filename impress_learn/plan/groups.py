"""Which tasks of one command are learned together, and where each begins: the command says, never the machine.

Tasks of one stream are put in the order of their keys and cut into chains of up to 16. In a chain each task begins
where the one before it ended (docs/method.md, Many tasks). Up to eight chains are a group: all their first tasks are
learned together, then all second ones. Groups have nothing to do with each other.
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
"""Tasks from which on they are learned together: fewer take a minute, and each is learned from the start."""
_CHAIN, _TOGETHER = 16, 8


@dataclass(frozen=True, eq=False)
class Link:
    """One task of a chain, and the one before it in the chain, where there is one."""

    request: TaskRequest
    before: TaskRequest | None


@dataclass(frozen=True, eq=False)
class Group:
    """Chains of tasks."""

    chains: tuple[tuple[TaskRequest, ...], ...]

    def waves(self) -> Iterator[list[Link]]:
        """The tasks that are learned together, one of each chain, as the chains go."""
        for place in range(max(map(len, self.chains))):
            yield [
                Link(chain[place], chain[place - 1] if place else None) for chain in self.chains if place < len(chain)
            ]


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


def _groups(tasks: Sequence[TaskRequest]) -> list[Group]:
    ordered = sorted(tasks, key=lambda one: natural_order(str(one.reference.key)))
    count = -(-len(ordered) // _CHAIN)
    cuts = [place * len(ordered) // count for place in range(count + 1)]
    chains = [tuple(ordered[first:last]) for first, last in pairwise(cuts)]
    return [Group(tuple(chains[first : first + _TOGETHER])) for first in range(0, count, _TOGETHER)]
