"""The workers of one run on a Ray cluster: who has which item in hand, and who takes the place of one that ended."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from impress_format.errors import ClusterError, DataError, WorkerLost
from impress_format.records.training import Elsewhere
from impress_learn.engines.machine import differences, this_machine
from impress_learn.engines.work import BankWork, Said, TorchSettings, raised_again
from impress_learn.progress import Progress

_LOOK_EVERY = 0.3
"""Seconds between two looks at how far the workers are."""
_MOST_STARTS = 3
"""Of one item whose worker ends, as it does each time where there is too little memory."""
_PATIENCE = 15.0
"""Seconds after which is said that no worker has begun."""
_FOR_MEMORY = "was ended for memory"


@dataclass(eq=False)
class Hand:
    """A worker: what it was asked last, and which item it has in hand."""

    actor: Any
    asked: Any
    stage: str = "greet"
    host: str = ""
    number: int | None = None


@dataclass(eq=False)
class Crew:
    """The workers of one run, and the numbers of the items that wait for one.

    Attributes:
        hire: starts an actor.
        sent: the work and the bank's files, in the object store.
        teller: the actor that hears of steps.
        starts: how often each item was begun.
        taken: steps of each item that were told, since it was begun last.
        lost: workers in a row that ended before they had begun.
        idle_since: when nobody had begun yet; None once somebody has.
    """

    ray: Any
    work: BankWork[Any, Any]
    items: Sequence[Any]
    hire: Callable[[], Any]
    sent: Any
    settings: TorchSettings
    mixed: bool
    teller: Any
    progress: Progress
    waiting: deque[int]
    hands: list[Hand] = field(default_factory=list)
    starts: Counter[int] = field(default_factory=Counter)
    taken: Counter[int] = field(default_factory=Counter)
    done: int = 0
    lost: int = 0
    idle_since: float | None = field(default_factory=time.monotonic)
    heard: float = 0.0
    said: set[str] = field(default_factory=set)

    def hire_one(self) -> None:
        """One more worker; it waits for a place if need be."""
        actor = self.hire()
        self.hands.append(Hand(actor, actor.greet.remote()))

    def let_go(self, hand: Hand) -> None:
        """End a worker."""
        self.hands.remove(hand)
        self.ray.kill(hand.actor)

    def dismiss(self) -> None:
        """End all of them; what they have in hand is given up."""
        for hand in list(self.hands):
            self.let_go(hand)
        self.ray.kill(self.teller)

    def ready(self) -> list[Hand]:
        """Those that answered, after a moment at most."""
        asked = [hand.asked for hand in self.hands]
        answered, _ = self.ray.wait(asked, num_returns=1, timeout=_LOOK_EVERY)
        if answered:
            answered, _ = self.ray.wait(asked, num_returns=len(asked), timeout=0)
        elif self.idle_since is not None and time.monotonic() - self.idle_since > _PATIENCE:
            self.remark("no worker has begun yet: others are at work on the cluster, or it still grows")
        found = set(answered)
        return [hand for hand in self.hands if hand.asked in found]

    def greeted(self, hand: Hand, host: str, has: dict[str, str] | None, missing: str) -> None:
        """Have a worker begin that said what it has.

        Raises:
            ClusterError: something is missing there, or other than here, which was not asked for.
        """
        hand.host, hand.stage = host, "begin"
        if has is None:
            bring = "install impresslearn there, or have the job bring it (runtime_env)"
            raise ClusterError(f"a worker on {host} has no {missing}: {bring}")
        theirs = Elsewhere(**has)
        other = differences(this_machine(), theirs)
        told = f"a worker on {host} has " + ", ".join(
            f"{name} {there} (here {here})" for name, (here, there) in other.items()
        )
        if "impress" in other:
            raise ClusterError(f"{told}: have the same impress everywhere")
        if other and not self.mixed:
            raise ClusterError(f"{told}: its results would differ in their last bits, which `mixed` allows")
        if other:
            self.remark(f"{told}: recorded in what it makes")
        hand.asked = hand.actor.begin.remote(self.sent, self.settings, theirs if other else None, self.teller)

    def begun(self, hand: Hand, failed: Said | None) -> None:
        """Give a worker that has begun its first item.

        Raises:
            ImpressError: why it has not.
        """
        if failed is not None:
            raise _told_by(hand.host, failed)
        self.lost, self.idle_since = 0, None
        self._go_on(hand)

    def finished(self, hand: Hand, answer: Any) -> tuple[int, Any, Mapping[str, bytes]]:
        """The number of an item, what it gave, and its files; the worker goes on to the next.

        Raises:
            ImpressError: that it raised.
        """
        given, failed = answer
        if failed is not None:
            raise _told_by(hand.host, failed)
        result, files, steps = given
        number = hand.number
        assert number is not None
        self._reached(number, steps)
        self.done += 1
        self._go_on(hand)
        return number, result, files

    def _go_on(self, hand: Hand) -> None:
        if not self.waiting:
            self.let_go(hand)
            return
        hand.number, hand.stage = self.waiting.popleft(), "do"
        self.starts[hand.number] += 1
        item = self.items[hand.number]
        self.progress.describe(f"{self.done:,} of {len(self.items):,} done; begun {self.work.name(item)}")
        hand.asked = hand.actor.do.remote((hand.number, self.starts[hand.number]), item)

    def replace(self, hand: Hand, error: Exception) -> None:
        """A worker has ended: another one takes its place, and its item from the start.

        Raises:
            WorkerLost: it is the third that ended so.
            ClusterError: none can be started.
        """
        if isinstance(error, self.ray.exceptions.RayTaskError):
            raise RuntimeError(f"a worker failed:\n{error}") from error
        if isinstance(error, self.ray.exceptions.RuntimeEnvSetupError):
            raise ClusterError(f"the job's runtime_env cannot be set up: {_first_line(error)}") from error
        self.let_go(hand)
        number, said = hand.number, f"a worker{f' on {hand.host}' * bool(hand.host)} {_why(error)}"
        if number is None:
            self.lost += 1
            if self.lost >= _MOST_STARTS:
                hint = "try fewer `workers`" if _why(error) == _FOR_MEMORY else _first_line(error)
                raise WorkerLost(f"{said} before it had begun, the third in a row: {hint}")
        else:
            said += f" while it was at {self.work.name(self.items[number])}"
            self.progress.again(self.taken.pop(number, 0))
            if self.starts[number] >= _MOST_STARTS:
                raise WorkerLost(
                    f"{said}, for the third time. What was finished is stored: give the command again, with fewer "
                    "`workers` if memory ran out"
                )
            self.remark(f"{said}: begun again")
            self.waiting.appendleft(number)
        self.hire_one()

    def listen(self) -> None:
        """Hear of steps and remarks, now and then. A teller that has ended costs a bar that stands still, no more."""
        if time.monotonic() - self.heard < _LOOK_EVERY:
            return
        try:
            told, remarks = self.ray.get(self.teller.take.remote(), timeout=_PATIENCE)
        except self.ray.exceptions.RayError:
            told, remarks = {}, []
        for text in remarks:
            self.remark(text)
        for key, steps in told.items():
            if key is not None and key[1] == self.starts[key[0]]:
                self._reached(key[0], steps)
        self.heard = time.monotonic()

    def remark(self, text: str) -> None:
        """Once, however many workers say so."""
        if text not in self.said:
            self.said.add(text)
            self.progress.remark(text)

    def _reached(self, number: int, steps: int) -> None:
        for _ in range(steps - self.taken[number]):
            self.progress.step()
        self.taken[number] = max(steps, self.taken[number])


def _why(error: Exception) -> str:
    """How a worker ended, of the pages that Ray has to say of it."""
    said = str(error).partition("Some common causes")[0]
    if "running low on memory" in said or "OutOfMemory" in type(error).__name__:
        return _FOR_MEMORY
    return "was lost with its node" if "node died" in said or "NodeDied" in type(error).__name__ else "ended"


def _told_by(host: str, said: Said) -> Exception:
    """What a worker raised; missing data are missing on its node."""
    kind, text = said
    if kind is None:
        return RuntimeError(f"a worker on {host} failed:\n{text}")
    if issubclass(kind, DataError):
        text = f"on the worker {host}, whose folders and environment are its own: {text}"
    return raised_again(kind, text)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
