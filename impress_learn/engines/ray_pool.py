"""The workers of one run on a Ray cluster: who has which item, and who takes the place of a worker that ended."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from impress_format.errors import ClusterError, TrainingDiverged, WorkerLost
from impress_format.records.training import Elsewhere
from impress_learn.engines.machine import differences, this_machine
from impress_learn.engines.ray_cluster import count_places
from impress_learn.engines.work import BankWork, Said, TorchSettings, raised_again
from impress_learn.progress import Progress

_LOOK_EVERY = 0.3
"""Seconds between two looks at how far the workers are."""
_MOST_STARTS = 3
"""Starts of one item whose worker ends each time, as it does where there is too little memory."""
_PATIENCE = 15.0
"""Seconds without any worker at work after which the cluster is looked at again."""
_FOR_MEMORY = "was ended for memory"


@dataclass(eq=False)
class Worker:
    """An actor: what it was asked last, and which item it has."""

    actor: Any
    asked: Any
    stage: str = "greet"
    host: str = ""
    number: int | None = None


@dataclass(eq=False)
class Finished:
    """An item that a worker is done with.

    Attributes:
        number: of the item.
        result: what it gave; None where it failed.
        files: those that it made, by their paths in the bank, also before it failed.
        error: what it raised.
    """

    number: int
    result: Any
    files: Mapping[str, bytes]
    error: Exception | None


@dataclass(eq=False)
class Pool:
    """The workers of one run, and the numbers of the items that wait for one.

    Attributes:
        start: starts an actor.
        sent: the work and the bank's files, in the object store.
        listener: the actor that hears of steps and remarks.
        starts: how often each item was begun.
        taken: steps of each item that were told, since it was begun last.
        lost: workers in a row that ended before they had begun.
        idle_since: since when no worker is at work; None while one is.
        reference: what the workers are compared with: what this process has, and the GPU of the first.
    """

    ray: Any
    work: BankWork[Any, Any]
    items: Sequence[Any]
    start: Callable[[], Any]
    sent: Any
    settings: TorchSettings
    gpus: float
    mixed: bool
    listener: Any
    progress: Progress
    waiting: deque[int]
    workers: list[Worker] = field(default_factory=list)
    starts: Counter[int] = field(default_factory=Counter)
    taken: Counter[int] = field(default_factory=Counter)
    done: int = 0
    lost: int = 0
    idle_since: float | None = field(default_factory=time.monotonic)
    reference: Elsewhere | None = None
    told: Any = None
    heard: float = 0.0

    def start_one(self) -> None:
        """One more worker; it waits for a place if need be."""
        actor = self.start()
        self.workers.append(Worker(actor, actor.greet.remote(self.settings.device)))

    def end_one(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.ray.kill(worker.actor)

    def end(self) -> None:
        """End all workers; what they have is given up."""
        for worker in list(self.workers):
            self.end_one(worker)
        self.ray.kill(self.listener)

    def answered(self) -> list[Worker]:
        """The workers that answered, after a moment at most.

        Raises:
            ClusterError: no worker is at work, and no node has room for one any more.
        """
        asked = [worker.asked for worker in self.workers]
        ready, _ = self.ray.wait(asked, num_returns=1, timeout=_LOOK_EVERY)
        if ready:
            ready, _ = self.ray.wait(asked, num_returns=len(asked), timeout=0)
        elif self.idle_since is not None and time.monotonic() - self.idle_since > _PATIENCE:
            count_places(self.ray.nodes(), self.settings.threads, self.gpus)
            self.progress.remark("no worker is at work: others have the cluster's CPUs, or its nodes are still to come")
            self.idle_since = time.monotonic()
        found = set(ready)
        return [worker for worker in self.workers if worker.asked in found]

    def greeted(self, worker: Worker, host: str, has: dict[str, str] | None, missing: str) -> None:
        """Have a worker begin that said what it has.

        Raises:
            ClusterError: something is missing there, or differs, and no other worker is at work.
        """
        worker.host, worker.stage = host, "begin"
        theirs = None if has is None else Elsewhere(**has)
        if theirs is not None and self.reference is None:
            # This process itself may have no GPU.
            self.reference = msgspec.structs.replace(this_machine("cpu"), gpu=theirs.gpu)
        other = {} if theirs is None or self.reference is None else differences(self.reference, theirs)
        told = f"a worker on {host} has " + ", ".join(f"{name} {there or 'none'} (not {here or 'none'})"
                                                      for name, (here, there) in other.items())  # fmt: skip
        if theirs is None:
            bring = "install impresslearn there, or have the job bring it (runtime_env)"
            self.refuse(worker, ClusterError(f"a worker on {host} has no {missing}: {bring}"))
        elif "impress" in other:
            self.refuse(worker, ClusterError(f"{told}: have the same impress everywhere"))
        elif other and not self.mixed:
            error = f"{told}: its results would differ in their last bits, which `mixed` allows"
            self.refuse(worker, ClusterError(error))
        else:
            if other:
                self.progress.remark(f"{told}: recorded in what it makes")
            recorded = theirs if other else None
            worker.asked = worker.actor.begin.remote(
                self.sent, self.settings, recorded, self.listener, max(_LOOK_EVERY, len(self.workers) / 500)
            )

    def refuse(self, worker: Worker, error: Exception) -> None:
        """Do without a worker, if others are at work.

        Raises:
            ImpressError: `error`, if none is.
        """
        if self.idle_since is not None:
            raise error
        self.progress.remark(f"{error}: the others go on")
        self.end_one(worker)

    def begun(self, worker: Worker, failed: Said | None) -> None:
        """Give a worker that has begun its first item.

        Raises:
            ImpressError: why it has not, if no other worker is at work.
        """
        if failed is not None:
            self.refuse(worker, told_by(worker.host, failed))
            return
        self.lost, self.idle_since = 0, None
        self._go_on(worker)

    def finished(self, worker: Worker, answer: Any) -> Finished:
        """What a worker is done with; it goes on to the next item."""
        result, files, steps, failed = answer
        number = worker.number
        assert number is not None
        self._reached(number, steps)
        self.done += 1
        self._go_on(worker)
        return Finished(number, result, files, None if failed is None else told_by(worker.host, failed))

    def replace(self, worker: Worker, error: Exception) -> None:
        """A worker has ended: another one takes its place, and its item from the start.

        Raises:
            WorkerLost: the item's third worker ended, or three in a row before they had begun.
            ClusterError: none can be started.
        """
        if isinstance(error, self.ray.exceptions.RayTaskError):
            raise RuntimeError(f"a worker failed:\n{error}") from error
        if isinstance(error, self.ray.exceptions.RuntimeEnvSetupError):
            raise ClusterError(f"the job's runtime_env cannot be set up: {_first_line(error)}") from error
        self.end_one(worker)
        number, why = worker.number, _why(error)
        said = f"a worker{f' on {worker.host}' * bool(worker.host)} {why}"
        if not any(other.stage == "do" for other in self.workers):
            self.idle_since = self.idle_since or time.monotonic()
        if number is None:
            self.lost += 1
            if self.lost >= _MOST_STARTS:
                hint = "try fewer `workers`" if why == _FOR_MEMORY else _first_line(error)
                self.refuse_to_start(f"{said} before it had begun, the third in a row: {hint}")
                return
        else:
            said += f" while it was at {self.work.name(self.items[number])}"
            self.progress.again(self.taken.pop(number, 0))
            if self.starts[number] >= _MOST_STARTS:
                raise WorkerLost(
                    f"{said}, for the third time. What was finished is stored: give the command again, with fewer "
                    "`workers` if memory ran out"
                )
            self.progress.remark(f"{said}: begun again")
            self.waiting.appendleft(number)
        if self.waiting:
            self.start_one()

    def refuse_to_start(self, why: str) -> None:
        """Start no more workers, if others are at work.

        Raises:
            WorkerLost: `why`, if none is.
        """
        if self.idle_since is not None:
            raise WorkerLost(why)
        self.progress.remark(f"{why}. The others go on")

    def listen(self) -> None:
        """Hear of steps and remarks, without waiting for them."""
        if self.told is None:
            if time.monotonic() - self.heard >= _LOOK_EVERY:
                self.told = self.listener.take.remote()
            return
        ready, _ = self.ray.wait([self.told], num_returns=1, timeout=0)
        if not ready:
            return
        try:
            told, remarks = self.ray.get(self.told)
        except self.ray.exceptions.RayError:  # it is started anew; the bar stands still meanwhile
            told, remarks = {}, []
        self.told, self.heard = None, time.monotonic()
        for text in remarks:
            self.progress.remark(text)
        for key, steps in told.items():
            if key is not None and key[1] == self.starts[key[0]]:
                self._reached(key[0], steps)

    def _go_on(self, worker: Worker) -> None:
        if not self.waiting:
            self.end_one(worker)
            return
        worker.number, worker.stage = self.waiting.popleft(), "do"
        self.starts[worker.number] += 1
        item = self.items[worker.number]
        self.progress.describe(f"{self.done:,} of {len(self.items):,} done; begun {self.work.name(item)}")
        worker.asked = worker.actor.do.remote((worker.number, self.starts[worker.number]), item)

    def _reached(self, number: int, steps: int) -> None:
        for _ in range(steps - self.taken[number]):
            self.progress.step()
        self.taken[number] = max(steps, self.taken[number])


def told_by(host: str, said: Said) -> Exception:
    """The error that a worker told of. Paths in it are those of its node."""
    kind, text = said
    if kind is None:
        return RuntimeError(f"a worker on {host} failed:\n{text}")
    own = issubclass(kind, TrainingDiverged)
    return raised_again(
        kind, text if own else f"on the worker {host}, whose folders and environment are its own: {text}"
    )


def _why(error: Exception) -> str:
    """How a worker ended, out of the pages that Ray says of it."""
    said = str(error).partition("Some common causes")[0]
    if "running low on memory" in said or "OutOfMemory" in type(error).__name__:
        return _FOR_MEMORY
    return "was lost with its node" if "node died" in said or "NodeDied" in type(error).__name__ else "ended"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
