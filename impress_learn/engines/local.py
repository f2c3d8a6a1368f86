"""Work scattered over processes of this machine: what each item gives, as it comes.

Nothing of what an item gives depends on who does it. A process that trains one thing in one thread, beside others,
gets more done than one that trains with all of them: most products of a small network are too small to be shared.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from impress_format.errors import WorkerLost
from impress_learn.engines.work import Steps, Work, raised_again, said_of
from impress_learn.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

_PATIENCE = 10.0
"""Seconds that a process has to end by itself."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def scatter_here(
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
                    raise raised_again(*what)
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
    steps = Steps(lambda count: connection.send(("steps", count)))
    try:
        do = work.begin(Progress(step=steps.step, remark=lambda text: connection.send(("remark", text))))
        while (number := connection.recv()) is not None:
            result = do(items[number])
            steps.tell()
            connection.send(("done", result))
    except (EOFError, ConnectionError):
        os._exit(1)
    except Exception as error:
        connection.send(("failed", said_of(error)))
