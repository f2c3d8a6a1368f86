"""More masks for a bank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import Bank, open_bank
from impress_format.create import extend_plan, still_to_plan
from impress_format.files import check_writable
from impress_format.records.fields import Allocation, MaskType
from impress_format.versions import require_version
from impress_learn.classes import mask_classes
from impress_learn.device import Device, choose_device
from impress_learn.fits import MaskFit
from impress_learn.held_out import check_same_split
from impress_learn.jobs.planned_masks import train_planned
from impress_learn.plan.bank import plan_masks, require_room
from impress_learn.plan.tasks import check_fits_bank
from impress_learn.streams.reference import parse_references
from impress_learn.watch import SILENT, Watch

if TYPE_CHECKING:
    pass


def extend_bank(
    path: Path | str,
    references: Sequence[str],
    *,
    fit: MaskFit = MaskFit(),  # noqa: B008  frozen
    masks_per_task: int = 1,
    random_masks: int = 0,
    density: float | None = None,
    mask_type: MaskType | None = None,
    allocation: Allocation | None = None,
    groups: str | None = None,
    device: Device = None,
    data_dir: Path | None = None,
    watch: Watch = SILENT,
) -> Bank:
    """Train more masks for a bank; stored tasks stay valid, masks it has are not trained again.

    Args:
        path: the bank's folder.
        references: the tasks that masks are trained for: `STREAM/KEY`, slices of keys, or `folder:PATH`.
        fit: how masks are trained.
        masks_per_task: homogeneous masks of each task.
        random_masks: untrained masks beside these.
        density: share of a layer's weights that a mask keeps, 0 to 1; None for that of the first mask, or .1.
        mask_type: what the ones of a mask weigh: 1, a sign each, or a number each; None for what those of the first
            mask do, or 1.
        allocation: whether all layers have this density, or small ones more (Erdős–Rényi); None for that of the first
            mask, or uniform.
        groups: of a person's own images, a pattern that tells which belong together (a patient's, a video's): none of
            these are both learned from and tested on. Part of the tasks' references.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        watch: is told how it goes.

    Returns:
        The bank, opened again.

    Raises:
        As create_bank.

    Example:
        >>> from impress_learn import MaskFit, extend_bank
        >>> bank = extend_bank("build/demo.impress", ["rotated-digits/60"], fit=MaskFit(epochs=1))
        >>> bank.manifest.masks[-1].task
        'rotated-digits/60'
    """
    bank = open_bank(path)
    tasks = parse_references(references, groups)
    check_fits_bank(tasks, bank.backbone)
    for task in tasks:
        check_same_split(bank, str(task))
    first = bank.manifest.masks[0] if bank.manifest.masks else None
    plans = plan_masks(
        tasks,
        fit if bank.manifest.format_version == 1 else fit.for_network(bank.backbone.arch),
        masks_per_task=masks_per_task,
        random_masks=random_masks,
        density=(first.density if first else 0.1) if density is None else density,
        mask_type=(first.type if first else "binary") if mask_type is None else mask_type,
        allocation=(first.allocation if first else "uniform") if allocation is None else allocation,
    )
    if not all(plan.is_of_version_1 for plan in plans):
        limit = "whose masks are binary, of one density in all layers and trained by plain SGD"
        require_version(bank.path, bank.manifest.format_version, limit)

    require_room(len(bank.manifest.masks) + len(still_to_plan(bank, plans)), len(tasks), masks_per_task, random_masks)

    from impress_learn.streams.load import check_data
    from impress_learn.train_masks import mask_bytes, sole_trainer

    where = choose_device(device)
    check_data(tasks, data_dir=data_dir, view=bank.manifest.preprocess, watch=watch)
    with sole_trainer(bank.path):
        check_writable(bank.path, max(mask_bytes(bank.backbone, plan.type) for plan in plans) if plans else 0)
        bank = extend_plan(open_bank(path), plans, mask_classes(tasks, data_dir))
        train_planned(bank, data_dir, where, watch)
    return bank
