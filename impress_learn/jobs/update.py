"""Resume learning a stored task on other data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.disk.files import remove_abandoned
from impress_format.disk.locks import hold
from impress_format.tasks.store import TASKS
from impress_learn.jobs.requests import learn_requests
from impress_learn.plan.tasks import check_same_classes, check_training_is_kept, request_update, settle_training
from impress_learn.plan.unlabelled import WITHOUT_LABELS, check_labelled
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device
from impress_learn.running.same_bits import choose_learning_device, open_to_learn
from impress_learn.streams.held_out import check_basis_held_out, check_held_out, check_same_split
from impress_learn.streams.reference import parse_one, without_labels
from impress_learn.training.config import UPDATE_TRAINING, TaskTraining

if TYPE_CHECKING:
    from impress_learn.tasks.added import AddedTask


def update_task(
    path: Path | str,
    task: str,
    reference: str,
    *,
    fit: TaskTraining = UPDATE_TRAINING,
    device: Device = None,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> AddedTask:
    """Resume learning a stored task on other data (drift); its file is replaced. Given again it changes nothing.

    Args:
        path: the bank's folder.
        task: the stored task, by name or reference.
        reference: the one task whose data it is to learn: `STREAM/KEY` or `folder:PATH`, of the same classes.
        fit: how it is learned; by default at a tenth of the rate of a new task.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        progress: is told how it goes.

    Returns:
        What was stored, its accuracies on the data of `reference`.

    Raises:
        TaskNotFound, AmbiguousTask: there is no such task, or several.
        StorageError: another process is updating this task, or the disk said no.
        UsageError, DataError, BankMismatch: nothing was started.
        TrainingDiverged, OutOfMemory: the stored task stays as it was.

    Examples:
        >>> from impress_learn import TaskTraining, update_task
        >>> fit = TaskTraining(lr=0.003, shots=5)
        >>> update_task("build/demo.impress", "rotated-digits-15", "rotated-digits/20", fit=fit).task
        'rotated-digits/20'
    """
    bank = open_to_learn(path, progress)
    data = parse_one(without_labels([reference])[0] if fit.unlabelled else reference)
    check_labelled([data], fit)
    if fit.unlabelled:
        progress.remark(WITHOUT_LABELS)
    asked = settle_training(data, fit)
    check_training_is_kept(bank, asked)
    bank.complete_masks()
    name = bank.find_task(task)
    if data.data_set.labelled:
        check_same_classes(bank, bank.read_task_record(name), data, data_dir)
    # Two updates at once would both begin from the same alpha, and the second would undo the first.
    lock = bank.path / TASKS / f".{name}.lock"
    with hold(lock, wait=False, busy=f"another process is updating task {name}: wait for it to end", remove=True):
        remove_abandoned(bank.path / TASKS)
        stored = bank.read_task_record(name)
        request = request_update(bank, name, data, asked)
        if request is None:
            from impress_learn.tasks.added import stored_task

            progress.remark("updated with these settings already: give another `seed` to update it once more")
            return stored_task(bank, name)
        check_held_out(name, stored.task, stored.holdout, fit.holdout)
        check_same_split(bank, str(data), stored.task)
        check_basis_held_out(bank, str(data), fit.holdout)
        where = choose_learning_device(bank, device, progress)
        return learn_requests(bank, [request], where, data_dir, progress)[name]
