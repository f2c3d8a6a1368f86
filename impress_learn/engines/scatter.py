"""Work scattered over workers, whichever engine these run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from impress_format.bank import Bank
from impress_format.versions import require_version
from impress_learn.engines.local import scatter_here
from impress_learn.engines.work import BankWork
from impress_learn.progress import Progress
from impress_learn.running.device import Workers
from impress_learn.streams.folder import FOLDER
from impress_learn.streams.reference import Reference
from impress_learn.training.config import require

Item = TypeVar("Item")
Result = TypeVar("Result")


def scatter(
    work: BankWork[Item, Result],
    items: Sequence[Item],
    *,
    receive: Callable[[Item, Mapping[str, bytes]], None],
    workers: Workers,
    progress: Progress,
) -> Iterator[tuple[Item, Result]]:
    """What each item gives, in the order in which they are finished; its files are in the bank then.

    Args:
        work: begun in each worker.
        receive: takes an item's files in, by their paths in the bank, where workers do not share its folder.
        workers: settled (running/device.py).
        progress: is told of the steps of all of them, and what is begun.

    Raises:
        ImpressError: that an item raised; the others are ended where they are.
        WorkerLost: a worker ended by itself: killed, as a rule for memory.
        ClusterError: there is no cluster, or it cannot do this.
    """
    progress = progress.once()
    if workers.engine == "ray":
        from impress_learn.engines.ray_driver import scatter_over_ray

        return scatter_over_ray(work, items, receive=receive, workers=workers, progress=progress)
    return scatter_here(work, items, workers=workers.count or 1, progress=progress)


def check_engine(workers: Workers, bank: Bank | None, tasks: Sequence[Reference], threads: int) -> None:
    """Refuse at once, before anything is computed, an engine that is not there or cannot do this.

    Args:
        bank: None for one that is still to be made.
        tasks: what workers are to learn from.
        threads: of each.

    Raises:
        UsageError: Ray is not installed; or data that workers would not find: those of this process, or of a folder
            that is named from the current one on.
        BankMismatch: workers may be mixed, and files of format version 1 cannot say what they had.
        ClusterError: no cluster is there, it lets nobody in, or no node of it has room for a worker.
    """
    if workers.engine != "ray":
        return
    for task in tasks:
        require(task.given is None, f"`engine` ray: the images of {task} are in this process, and workers have others")
        folder = str(task).partition(f"{FOLDER.name}:")[2]
        require(
            not folder or Path(folder).is_absolute(),
            f"`engine` ray: {task} is named from the current folder on, and a worker has another: give the whole path",
        )
    if workers.mixed and bank is not None:
        require_version(bank.path, bank.manifest.format_version, "whose files do not say with what they were made")
    from impress_learn.engines.ray_cluster import connected, count_places

    with connected(workers.ray_address) as ray:
        count_places(ray.nodes(), threads, workers.gpus_per_worker)


def is_scattered(workers: Workers, items: int) -> bool:
    """Whether so many items are given to workers, and not done by this process."""
    return workers.engine == "ray" or ((workers.count or 1) > 1 and items > 1)
