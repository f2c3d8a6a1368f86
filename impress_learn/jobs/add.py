"""Learn tasks and store them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from impress_learn.engines.scatter import check_engine, is_scattered, scatter
from impress_learn.engines.work import TorchSettings
from impress_learn.jobs.requests import learn_requests
from impress_learn.jobs.scattered import TaskWork, receive_tasks
from impress_learn.parts.table import Parts
from impress_learn.plan.asked_tasks import AskedTasks, plan_requests
from impress_learn.plan.few import may_look_at_stored_tasks
from impress_learn.plan.tasks import still_to_add
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device, settle_workers
from impress_learn.running.same_bits import choose_learning_device, open_to_learn
from impress_learn.streams.reference import Reference
from impress_learn.training.config import TaskTraining

if TYPE_CHECKING:
    from impress_learn.tasks.added import AddedTask


def add_tasks(
    path: Path | str,
    references: Sequence[str | Reference],
    *,
    fit: TaskTraining = TaskTraining(),  # noqa: B008  frozen
    name: str | None = None,
    parts: Parts = Parts(),  # noqa: B008  frozen
    warm_start: str | None = None,
    device: Device = None,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> list[AddedTask]:
    """Learn tasks and store them; those that are stored already with these settings are left as they are.

    Args:
        path: the bank's folder.
        references: the tasks: `STREAM/KEY`, slices of keys, `folder:PATH`, or references that were read already.
        fit: how they are learned: epochs, learning rate, few images a class (`shots`), seed and so on.
        name: what the one task is to be called; None for a name that its reference makes.
        parts: that the tasks are to have, or the `bytes` of a file that is to hold the best task (plan/budget.py).
        warm_start: the stored task that they begin from (method.md, drift), by name or reference; with `shots` a ridge
            holds them near it.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU. `Workers` for several processes.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        progress: is told how it goes.

    Returns:
        One for each reference, in order.

    Raises:
        UsageError, DataError, StorageError: nothing was started.
        TrainingDiverged, OutOfMemory: tasks finished before stay stored.

    Examples:
        >>> from impress_learn import TaskTraining, add_tasks
        >>> (added,) = add_tasks("build/demo.impress", ["rotated-digits/45"], fit=TaskTraining(epochs=1))
        >>> added.name, added.facts["coefficients"]
        ('rotated-digits-45', 9)
    """
    bank = open_to_learn(path, progress)
    workers = settle_workers(device)
    where_data = None if data_dir is None else data_dir.absolute()
    asked = AskedTasks(tuple(references), fit, name, parts, warm_start, where_data)
    requests = plan_requests(bank, asked, progress)
    missing = still_to_add(bank, requests)
    if len(missing) < len(requests):
        progress.remark(f"{len(requests) - len(missing)} of {len(requests)} tasks are there already")
    if missing:
        check_engine(workers, bank, [one.reference for one in missing], fit.threads)
    where = None
    if missing:
        where = choose_learning_device(bank, workers.device, progress, engine=workers.engine)

    def scattered(items: Sequence[tuple[str, ...]]) -> Iterator[Mapping[str, AddedTask]]:
        assert where is not None
        settings = TorchSettings.of(where, fit.threads)
        with_tasks = any(map(may_look_at_stored_tasks, requests))
        work = TaskWork(bank.path.absolute(), asked.expanded(requests), settings, with_tasks)
        done = scatter(work, items, receive=receive_tasks(bank, requests), workers=workers, progress=progress)
        return (learned for _, learned in done)

    apart = is_scattered(workers, len(missing)) and all(one.reference.given is None for one in missing)
    learned = learn_requests(
        bank,
        missing,
        where,
        data_dir,
        progress,
        among=requests,
        scattered=scattered if apart else None,
        workers=workers.count or len(missing),
    )

    from impress_learn.tasks.added import stored_task

    return [learned.get(request.name) or stored_task(bank, request.name) for request in requests]
