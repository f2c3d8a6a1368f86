"""Work scattered over a Ray cluster: the command plans, checks what comes back and stores it; workers share no folder
with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from impress_format.errors import ClusterError, FormatError
from impress_learn.engines.ray_cluster import connected, count_places
from impress_learn.engines.ray_pool import Finished, Pool
from impress_learn.engines.ray_worker import listener_class, worker_class
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
        WorkerLost: workers ended by themselves, with the same item, three times.
        ImpressError: that an item raised; what it and others had made is stored.
    """
    if not items:
        return
    gpus = workers.gpus_per_worker
    with connected(workers.ray_address) as ray:
        settings = replace(work.settings, device="cuda" if gpus else "cpu")
        places = count_places(ray.nodes(), settings.threads, gpus)
        taken = {"num_cpus": settings.threads, "num_gpus": gpus, "max_restarts": 0}
        pool = Pool(
            ray=ray,
            work=work,
            items=items,
            start=ray.remote(**taken)(worker_class()).remote,
            sent=_put(ray, (work, work.needs())),
            settings=settings,
            gpus=gpus,
            mixed=workers.mixed,
            listener=ray.remote(num_cpus=0, max_restarts=-1)(listener_class()).remote(),
            progress=progress,
            waiting=deque(range(len(items))),
        )
        try:
            for _ in range(min(workers.count or places, len(items))):
                pool.start_one()
            while pool.done < len(items):
                failed: Exception | None = None
                for one in _finished(pool):
                    _store(work, items[one.number], one, receive)
                    failed = failed or one.error
                    if one.error is None:
                        yield items[one.number], one.result
                if failed is not None:
                    raise failed
                pool.listen()
        finally:
            pool.end()


def _put(ray: Any, value: object) -> Any:
    try:
        return ray.put(value)
    except ray.exceptions.RayError as error:
        raise ClusterError(f"the bank's files do not fit into the cluster's object store: {error}") from error


def _finished(pool: Pool) -> Iterator[Finished]:
    """What those workers are done with that answered now."""
    for worker in pool.answered():
        try:
            answer = pool.ray.get(worker.asked)
        except pool.ray.exceptions.RayError as error:
            pool.replace(worker, error)
            continue
        if worker.stage == "greet":
            pool.greeted(worker, *answer)
        elif worker.stage == "begin":
            pool.begun(worker, answer)
        else:
            yield pool.finished(worker, answer)


def _store(
    work: BankWork[Item, Any], item: Item, one: Finished, receive: Callable[[Item, Mapping[str, bytes]], None]
) -> None:
    """Raises FormatError for what is damaged, naming a worker where it comes from one."""
    try:
        receive(item, one.files)
    except FormatError as error:
        if error.path in [work.path / name for name in one.files]:
            raise FormatError(error.path, f"what a worker sent {error.problem}") from error
        raise
