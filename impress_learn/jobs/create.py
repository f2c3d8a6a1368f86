"""Create a bank: its network, what it keeps once, and its masks; or resume one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import Bank, open_bank
from impress_format.bank_files.folder import MANIFEST
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER
from impress_format.disk.files import check_writable, is_there, make_folder
from impress_format.limits import MAX_SIDE
from impress_format.operations.create import check_can_create, is_empty, write_plan
from impress_learn.engines.scatter import check_engine
from impress_learn.jobs.planned_masks import train_planned
from impress_learn.plan.asked import Masks, Network
from impress_learn.plan.bank import (
    choose_view,
    count_classes,
    plan_bank,
    plan_masks,
    pretrained_view,
    shared_class_names,
)
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device, choose_device, in_threads, settle_workers
from impress_learn.running.same_bits import check_instructions, choose_instructions
from impress_learn.streams.classes import mask_classes
from impress_learn.streams.reference import Reference, parse_references
from impress_learn.streams.view import view_shape
from impress_learn.training.config import MaskTraining, check_number, require

if TYPE_CHECKING:
    import torch

    from impress_format.records.manifest import Preprocess
    from impress_learn.network.backbone import Backbone


def create_bank(
    path: Path | str,
    references: Sequence[str],
    *,
    network: Network = Network(),  # noqa: B008  frozen
    masks: Masks = Masks(),  # noqa: B008  frozen
    fit: MaskTraining = MaskTraining(),  # noqa: B008  frozen
    device: Device = None,
    reproducible: bool = False,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> Bank:
    """Train a bank of masks, or what is missing of one that an interrupted run with the same settings left.

    Args:
        path: the bank's folder, by habit NAME.impress.
        references: the tasks that masks are trained for: `STREAM/KEY`, slices of keys, or `folder:PATH`.
        network: its network, and what images that takes.
        masks: how many masks there are of each task, and what they are like.
        fit: how masks are trained.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU. `Workers` for several processes.
        reproducible: compute with instructions that every x86-64 machine with AVX2 has, so that the same releases give
            the same bits on all of them; the bank says so, and what is added later is computed likewise. To be asked
            for before torch is imported, or with its variables set (running/same_bits.py).
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        progress: is told how it goes.

    Returns:
        The bank, opened.

    Raises:
        UsageError: settings that do not fit, or another bank at `path`; nothing is written.
        DataError: data are missing; nothing is written.
        TrainingDiverged, StorageError, OutOfMemory: masks finished before stay stored.

    Examples:
        >>> from impress_learn import MaskTraining, create_bank
        >>> bank = create_bank("three.impress", ["rotated-digits/0:360:120"], fit=MaskTraining(epochs=1))
        >>> len(bank.manifest.masks)
        3
    """
    path = Path(path)
    _check_asked(network)
    tasks = parse_references(references)
    plans = plan_masks(tasks, fit.for_network(network.backbone), masks)
    check_can_create(path)
    existing = open_bank(path) if is_there(path / MANIFEST) else None
    instructions = choose_instructions(existing, reproducible=reproducible)

    from msgspec.structs import replace as replace_fields

    from impress_learn.features.features import classifier_name
    from impress_learn.jobs.making import (
        ensure_calibration_images,
        ensure_projection,
        ensure_task_classifier,
        mask_bytes,
        sole_trainer,
    )
    from impress_learn.network.build import build_backbone, usual_side
    from impress_learn.network.pretrained import load_weights

    workers = settle_workers(device)
    check_engine(workers, existing, tasks, fit.threads)
    where = choose_device(workers.device)
    check_instructions(instructions, workers, where)
    arch, weights = network.backbone, network.weights
    side = usual_side(arch)
    asked = None if network.image_size == "auto" else network.image_size
    view = choose_view(tasks, size=asked, mode=network.image_mode, photo_size=side)
    view = replace_fields(view, mirror=network.mirror)
    pretrained = None
    if weights is not None:
        require(arch.startswith("timm:"), f"`weights` {weights}: `backbone` {arch} has none: use timm:NAME")
        require(network.image_mode != "L", "`image_mode` L: networks that others trained take RGB")
        pretrained = load_weights(weights, arch, None if existing is None else existing.backbone.pretrained)
        view = pretrained_view(view, size=asked or side, mean=pretrained.mean, std=pretrained.std)

    def build(shape: tuple[int, int, int], remark: Callable[[str], None]) -> Backbone:
        return build_backbone(
            arch,
            init=network.init,
            seed=fit.seed,
            input_shape=shape,
            classes=count_classes(tasks),
            weights=pretrained,
            existing=None if existing is None else existing.manifest,
            remark=remark,
        )

    if network.image_size == "auto":
        if existing is not None and existing.manifest.preprocess is not None:  # a run that is resumed has settled it
            size = existing.manifest.preprocess.size
        else:
            with in_threads(fit.threads):
                size = _tried_size(tasks, view, build, where, data_dir, fit.holdout, progress)
        view = replace_fields(view, size=size)
    backbone = build(view_shape(view), progress.remark)
    heads = pretrained is not None and classifier_name(backbone) is not None
    with in_threads(fit.threads):  # a mean is a sum, too
        view = _settle_view(
            tasks,
            view,
            existing,
            needs_data=existing is None or _needs_data(existing, heads=heads),
            measure=pretrained is None,
            data_dir=data_dir,
            holdout=fit.holdout,
            progress=progress,
        )
    make_folder(path)
    with sole_trainer(path), in_threads(fit.threads):
        check_writable(path, max((mask_bytes(backbone.spec, plan.type) for plan in plans), default=0))
        planned = plan_bank(
            backbone.spec,
            plans,
            view,
            shared_class_names(tasks, data_dir),
            mask_classes(tasks, data_dir),
            seed=fit.seed,
            calibration=backbone.has_batch_norm,
            # Features tell photos apart, pixels do not (docs/results/which-task.md).
            task_classifier=not heads,
            instructions=instructions,
        )
        bank = write_plan(path, planned)
        ensure_calibration_images(bank, tasks, data_dir=data_dir, holdout=fit.holdout)
        ensure_task_classifier(bank, tasks, data_dir=data_dir, holdout=fit.holdout, device=where)
        ensure_projection(
            bank,
            tasks,
            epochs=network.adapt,
            threads=fit.threads,
            data_dir=data_dir,
            holdout=fit.holdout,
            device=where,
            progress=progress,
        )
        train_planned(bank, data_dir, where, progress, workers)
    return bank


def _check_asked(network: Network) -> None:
    """Raises UsageError for what is of pretrained networks alone, and weights are not given."""
    check_number("adapt", network.adapt, least=0, most=MAX_SIDE)
    require(not network.adapt or network.weights is not None, "`adapt` moves what others trained: give `weights`")
    require(
        network.image_size != "auto" or network.weights is not None,
        "`image_size` auto tries what heads come to over weights that others trained: give `weights`, or a number",
    )


def _settle_view(
    tasks: Sequence[Reference],
    view: Preprocess,
    existing: Bank | None,
    *,
    needs_data: bool,
    measure: bool,
    data_dir: Path | None,
    holdout: float,
    progress: Progress,
) -> Preprocess:
    """How a new bank's images are made, as far as only they can tell: their scale, their mean and deviation.

    Args:
        existing: the bank that an interrupted run left, which keeps what it has.
        needs_data: whether the images are wanted still; they are then read, so that what is missing is found now.
        measure: whether mean and deviation of images of any size are measured: nobody knows them before.

    Raises:
        DataError: the data are missing, or have two scales.
    """
    from msgspec.structs import replace as replace_fields

    from impress_learn.streams.load import check_data, measured_view, spanned_view
    from impress_learn.streams.span import in_words

    kept = None if existing is None else existing.manifest.preprocess
    if existing is not None and kept is not None and not is_empty(existing):
        view = replace_fields(view, crop=kept.crop, span=kept.span)
    elif needs_data:
        view = spanned_view(tasks, view, data_dir=data_dir)
        if view.span is not None:
            progress.remark(f"images of more than 8 bits: {in_words(*view.span)} become black … white, in this bank")
    if needs_data:
        check_data(tasks, data_dir=data_dir, view=view, progress=progress)
    if tasks[0].data_set.input_shape is not None or not measure:
        return view
    if kept is not None:
        return replace_fields(view, mean=kept.mean, std=kept.std)
    return measured_view(tasks[0], view, data_dir=data_dir, holdout=holdout)


def _tried_size(
    tasks: Sequence[Reference],
    view: Preprocess,
    build: Callable[[tuple[int, int, int], Callable[[str], None]], Backbone],
    device: torch.device,
    data_dir: Path | None,
    holdout: float,
    progress: Progress,
) -> tuple[int, int]:
    """The height and width that are worth their time, which is told.

    Args:
        view: of images of the size that the network is made for.
        build: the network for images of a shape.

    Raises:
        UsageError: the network takes none of the sizes that are tried.
        DataError: the data are missing.
    """
    from impress_learn.features.image_size import MOST_TASKS, choose_size, in_words, sides_for, try_sizes
    from impress_learn.streams.load import load_task, spanned_view

    progress.describe("trying image sizes")
    view = spanned_view(tasks, view, data_dir=data_dir)
    data = [
        load_task(task, data_dir=data_dir, view=view, holdout=holdout, device=device) for task in tasks[:MOST_TASKS]
    ]
    channels, _, usual = view_shape(view)
    tried = try_sizes(
        lambda side: build((channels, side, side), lambda _: None).to(device),
        data,
        sides_for(usual),
        mirrored=view.mirror,
    )
    chosen = choose_size(tried)
    progress.remark(in_words(tried, chosen))
    return chosen.side, chosen.side


def _needs_data(bank: Bank, *, heads: bool) -> bool:
    """Whether images are wanted still: for masks, or for what signatures or heads stand on."""
    return bool(
        bank.missing_masks()
        or (bank.manifest.recogniser and not is_there(bank.files.path(TASK_CLASSIFIER)))
        or (heads and not bank.has_projection)
    )
