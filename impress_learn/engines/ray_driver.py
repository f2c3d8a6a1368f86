"""Work scattered over a Ray cluster: the command plans, checks what comes back and stores it; workers share no folder
with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from impress_format.errors import FormatError
from impress_learn.engines.ray_cluster import connected, count_places
from impress_learn.engines.ray_crew import Crew
from impress_learn.engines.ray_worker import teller_class, worker_class
from impress_learn.engines.work import BankWork
from impress_learn.progress import Progress
from impress_learn.running.device import Workers

Item = TypeVar("Item")
Result = TypeVar("Result")


def scatter_over_ray(
    work: BankWork[Item, Result],
    items: Sequence[Item],
    *,
    receive: Callable[[Item, Mapping[str, bytes]], None],
    workers: Workers,
    progress: Progress,
) -> Iterator[tuple[Item, Result]]:
    """What each item gives, in the order in which they are finished; its files are stored then.

    Args:
        work: sent to all workers, once, with the files of the bank that it needs.
        receive: checks an item's files, by their paths in the bank, and stores them.
        workers: settled (running/device.py).
        progress: is told of the steps of all of them, and what is begun.

    Raises:
        UsageError: Ray is not installed.
        ClusterError: no cluster is there, or it cannot do this; or workers have other releases.
        WorkerLost: workers ended by themselves, the same item in hand, three times.
        ImpressError: that an item raised.
    """
    if not items:
        return
    with connected(workers.ray_address) as ray:
        settings = replace(work.settings, device="cuda") if workers.gpus_per_worker else work.settings
        places = count_places(ray.nodes(), settings.threads, workers.gpus_per_worker)
        files = {name: (work.path / name).read_bytes() for name in work.needs()}
        taken = {"num_cpus": settings.threads, "num_gpus": workers.gpus_per_worker, "max_restarts": 0}
        crew = Crew(
            ray=ray,
            work=work,
            items=items,
            hire=ray.remote(**taken)(worker_class()).remote,
            sent=ray.put((work, files)),
            settings=settings,
            mixed=workers.mixed,
            teller=ray.remote(num_cpus=0, max_restarts=-1)(teller_class()).remote(),
            progress=progress,
            waiting=deque(range(len(items))),
        )
        try:
            for _ in range(min(workers.count or places, len(items))):
                crew.hire_one()
            for number, result, made in _finished(crew):
                try:
                    receive(items[number], made)
                except FormatError as error:
                    raise FormatError(error.path, f"what a worker sent {error.problem}") from error
                yield items[number], result
        finally:
            crew.dismiss()


def _finished(crew: Crew) -> Iterator[tuple[int, Any, Mapping[str, bytes]]]:
    """Of each item its number, what it gave, and its files."""
    while crew.done < len(crew.items):
        for hand in crew.ready():
            try:
                answer = crew.ray.get(hand.asked)
            except crew.ray.exceptions.RayError as error:
                crew.replace(hand, error)
                continue
            if hand.stage == "greet":
                crew.greeted(hand, *answer)
            elif hand.stage == "begin":
                crew.begun(hand, answer)
            else:
                yield crew.finished(hand, answer)
        crew.listen()
