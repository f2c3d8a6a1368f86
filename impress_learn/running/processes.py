"""Work scattered over processes of this machine, each with one thread: what each item gives, as it comes.

Nothing of what an item gives depends on who does it. A process that trains one thing in one thread, beside others,
gets more done than one that trains with all of them: most products of a small network are too small to be shared.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from impress_format.errors import ImpressError, WorkerLost
from impress_learn.progress import Progress
from impress_learn.running.device import compute_deterministically

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")

_TELL_EVERY = 0.2
"""Seconds between two messages of a process about its steps."""
_PATIENCE = 10.0
"""Seconds that a process has to end by itself."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class TorchSettings:
    """How torch computes in each process: in one thread, as everywhere else.

    Attributes:
        device: its name.
        deterministic: whether a GPU gives the same result every time.
    """

    device: str
    deterministic: bool

    @staticmethod
    def of(device: torch.device) -> TorchSettings:
        """As in this process."""
        import torch

        return TorchSettings(str(device), torch.are_deterministic_algorithms_enabled())

    def apply(self) -> torch.device:
        """Have this process compute so; the device."""
        import torch

        torch.set_num_threads(1)
        if self.deterministic:
            compute_deterministically()
        return torch.device(self.device)


class Work(Protocol, Generic[Item_contra, Result_co]):
    """What each process does. It is sent to all of them: data alone, no functions."""

    def begin(self, progress: Progress) -> Callable[[Item_contra], Result_co]:
        """What does one item; called once in each process, after which torch may be imported."""

    def name(self, item: Item_contra) -> str:
        """What an item is, for people."""


def scatter(
    work: Work[Item, Result], items: Sequence[Item], *, workers: int, progress: Progress
) -> Iterator[tuple[Item, Result]]:
    """What each item gives, in the order in which they are finished.

    Args:
        work: begun in each process.
        workers: processes, at most one an item.
        progress: is told of the steps of all of them, and what is begun.

    Raises:
        ImpressError: that an item raised; the others are ended where they are.
        WorkerLost: a process ended by itself: killed, as a rule for memory.
    """
    left = iter(range(len(items)))
    done = 0
    with _started(work, items, min(workers, len(items))) as running:
        for worker in running:
            _ask(worker, next(left))
        busy = list(running)
        while busy:
            ready = wait([worker.connection for worker in busy])
            for worker in [one for one in busy if one.connection in ready]:
                kind, what = _hear(worker, work.name, items)
                if kind == "steps":
                    for _ in range(what):
                        progress.step()
                elif kind == "remark":
                    progress.remark(what)
                elif kind == "failed":
                    raise _again(*what)
                else:
                    assert worker.doing is not None
                    item, done = items[worker.doing], done + 1
                    if (following := next(left, None)) is None:
                        busy.remove(worker)
                    else:
                        progress.describe(f"{done:,} of {len(items):,} done; begun {work.name(items[following])}")
                    _ask(worker, following)
                    yield item, what


@dataclass(eq=False)
class _Worker:
    """A process, the connection to it, and the number of the item that it does."""

    process: BaseProcess
    connection: Connection
    doing: int | None = None


def _ask(worker: _Worker, number: int | None) -> None:
    """Have a process do an item; None to have it end."""
    worker.doing = number
    with suppress(OSError):  # it has ended, which is heard next
        worker.connection.send(number)


def _hear(worker: _Worker, name: Callable[[Any], str], items: Sequence[Any]) -> tuple[str, Any]:
    """The next message of a process: of which kind, and what it says."""
    try:
        message: tuple[str, Any] = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        assert worker.doing is not None
        raise WorkerLost(
            f"a worker {_ended(worker.process.exitcode or 0)} while it was at {name(items[worker.doing])}. What was "
            "finished is stored: give the command again, with fewer `workers` if memory ran out"
        ) from None
    return message


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _again(kind: type[ImpressError] | None, text: str) -> Exception:
    """An error that a process raised; of one that is none of ours all that it says."""
    if kind is None:
        return RuntimeError(f"a worker failed:\n{text}")
    error = kind.__new__(kind)
    Exception.__init__(error, text)
    return error


@contextmanager
def _started(work: Work[Item, Result], items: Sequence[Item], count: int) -> Iterator[list[_Worker]]:
    """So many processes; afterwards none runs, however it is left."""
    context, workers = multiprocessing.get_context("spawn"), list[_Worker]()
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read when NumPy and torch are first imported
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(work, items, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the connection ends with the process
            workers.append(_Worker(process, ours))
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    try:
        yield workers
        for worker in workers:
            worker.process.join(_PATIENCE)
    finally:
        for worker in workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in workers:
            worker.process.join(_PATIENCE)
            worker.process.kill()
            worker.process.join()
            worker.process.close()


def _serve(work: Work[Item, Result], items: Sequence[Item], connection: Connection) -> None:
    """What a process does: the items that it is asked for. It ends when nobody is there who asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them: whoever started them ends them
    steps = _Steps(connection)
    try:
        do = work.begin(Progress(step=steps.step, remark=lambda text: connection.send(("remark", text))))
        while (number := connection.recv()) is not None:
            result = do(items[number])
            steps.tell()
            connection.send(("done", result))
    except (EOFError, ConnectionError):
        os._exit(1)
    except ImpressError as error:
        connection.send(("failed", (type(error), str(error))))
    except Exception:
        import traceback

        connection.send(("failed", (None, traceback.format_exc())))


class _Steps:
    """Steps of this process, told a few times a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._count, self._last = connection, 0, time.monotonic()

    def step(self) -> None:
        self._count += 1
        if time.monotonic() - self._last >= _TELL_EVERY:
            self.tell()

    def tell(self) -> None:
        """Those that were not told yet."""
        if self._count:
            self._connection.send(("steps", self._count))
        self._count, self._last = 0, time.monotonic()
