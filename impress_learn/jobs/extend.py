"""More masks for a bank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from impress_format.bank import Bank, open_bank
from impress_format.disk.files import check_writable
from impress_format.operations.create import extend_plan, still_to_plan
from impress_format.versions import require_version
from impress_learn.engines.scatter import check_engine
from impress_learn.jobs.planned_masks import train_planned
from impress_learn.plan.asked import Masks
from impress_learn.plan.bank import plan_masks, require_room
from impress_learn.plan.tasks import check_fits_bank
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device, in_threads, settle_workers
from impress_learn.running.same_bits import choose_learning_device, open_to_learn
from impress_learn.streams.classes import mask_classes
from impress_learn.streams.held_out import check_same_split
from impress_learn.streams.reference import parse_references
from impress_learn.training.config import MaskTraining


def extend_bank(
    path: Path | str,
    references: Sequence[str],
    *,
    masks: Masks = Masks(),  # noqa: B008  frozen
    fit: MaskTraining = MaskTraining(),  # noqa: B008  frozen
    device: Device = None,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> Bank:
    """Train more masks for a bank; stored tasks stay valid, masks it has are not trained again.

    Args:
        path: the bank's folder.
        references: the tasks that masks are trained for: `STREAM/KEY`, slices of keys, or `folder:PATH`.
        masks: how many more there are of each task, and what they are like: as the bank's first unless asked otherwise.
        fit: how masks are trained.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU. `Workers` for several processes.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        progress: is told how it goes.

    Returns:
        The bank, opened again.

    Raises:
        UsageError, BankMismatch: settings that do not fit the bank; nothing is written.
        DataError: data are missing; nothing is written.
        TrainingDiverged, StorageError, OutOfMemory: masks finished before stay stored.

    Examples:
        >>> from impress_learn import MaskTraining, extend_bank
        >>> bank = extend_bank("build/demo.impress", ["rotated-digits/60"], fit=MaskTraining(epochs=1))
        >>> bank.manifest.masks[-1].task
        'rotated-digits/60'
    """
    bank = open_to_learn(path, progress)
    tasks = parse_references(references)
    check_fits_bank(tasks, bank.backbone)
    for task in tasks:
        check_same_split(bank, str(task))
    first = bank.manifest.masks[0] if bank.manifest.masks else None
    plans = plan_masks(
        tasks,
        fit if bank.manifest.format_version == 1 else fit.for_network(bank.backbone.arch),
        masks,
        like=first,
    )
    if not all(plan.is_of_version_1 for plan in plans):
        limit = "whose masks are binary, of one density in all layers and trained by plain SGD"
        require_version(bank.path, bank.manifest.format_version, limit)

    require_room(len(bank.manifest.masks) + len(still_to_plan(bank, plans)), len(tasks), masks)

    from impress_learn.jobs.making import mask_bytes, sole_trainer
    from impress_learn.streams.load import check_data

    workers = settle_workers(device)
    check_engine(workers, bank, tasks, fit.threads)
    where = choose_learning_device(bank, workers.device, progress, engine=workers.engine)
    check_data(tasks, data_dir=data_dir, view=bank.manifest.preprocess, progress=progress)
    with sole_trainer(bank.path), in_threads(fit.threads):
        check_writable(bank.path, max(mask_bytes(bank.backbone, plan.type) for plan in plans) if plans else 0)
        bank = extend_plan(open_bank(path), plans, mask_classes(tasks, data_dir))
        train_planned(bank, data_dir, where, progress, workers)
    return bank
