"""Create a bank: its network, what it keeps once, and its masks; or resume one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from impress_format.bank import Bank, open_bank
from impress_format.bank_folder import MANIFEST
from impress_format.create import check_can_create, is_empty, write_plan
from impress_format.files import check_writable, is_there, make_folder
from impress_format.limits import MAX_SIDE
from impress_format.records.fields import Allocation, Init, MaskType
from impress_learn.classes import mask_classes
from impress_learn.device import Device, choose_device
from impress_learn.fits import MaskFit, check_number, require
from impress_learn.jobs.planned_masks import train_planned
from impress_learn.plan.bank import (
    choose_view,
    count_classes,
    plan_bank,
    plan_masks,
    pretrained_view,
    shared_class_names,
)
from impress_learn.streams.reference import Reference, parse_references
from impress_learn.watch import SILENT, Watch

if TYPE_CHECKING:
    from impress_format.records.manifest import Preprocess


def create_bank(
    path: Path | str,
    references: Sequence[str],
    *,
    backbone: str = "lenet-300-100",
    weights: str | None = None,
    init: Init = "signed-constant",
    fit: MaskFit = MaskFit(),  # noqa: B008  frozen
    masks_per_task: int = 1,
    random_masks: int = 0,
    density: float = 0.1,
    mask_type: MaskType = "binary",
    allocation: Allocation = "uniform",
    image_size: int | None = None,
    image_mode: Literal["L", "RGB"] | None = None,
    adapt: int = 0,
    groups: str | None = None,
    device: Device = None,
    data_dir: Path | None = None,
    watch: Watch = SILENT,
) -> Bank:
    """Train a bank of masks, or what is missing of one that an interrupted run with the same settings left.

    Args:
        path: the bank's folder, by habit NAME.impress.
        references: the tasks that masks are trained for: `STREAM/KEY`, slices of keys, or `folder:PATH`.
        backbone: the network: `lenet-300-100`, `resnet-18-nfN` or `timm:NAME`.
        weights: that others trained, for a timm model: FILE.safetensors, `timm:TAG` or `hf-hub:OWNER/NAME`, the last
            two also with `@REVISION`. The bank names them and does not hold them.
        init: how weights are drawn from the seed: all of a layer's standard deviation with a random sign, or normal.
        fit: how masks are trained.
        masks_per_task: homogeneous masks of each task; 0 for none, where the bank stands on weights that others
            trained.
        random_masks: untrained masks beside these.
        density: share of a layer's weights that a mask keeps, 0 to 1.
        mask_type: what the ones of a mask weigh: 1, a sign each, or a number each.
        allocation: whether all layers have this density, or small ones more (Erdős–Rényi).
        image_size: height and width that all images are made; None for their own, or, where they have none, for what
            the network is made for.
        image_mode: grey (L) or RGB; None for as they are.
        adapt: passes over the tasks' images in which a pretrained network is first moved towards them, for all heads
            that will stand on it; kept in the bank, four bits a weight.
        groups: of a person's own images, a pattern that tells which belong together (a patient's, a video's): none of
            these are both learned from and tested on. Part of the tasks' references.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        watch: is told how it goes.

    Returns:
        The bank, opened.

    Raises:
        UsageError: settings that do not fit, or another bank at `path`; nothing is written.
        DataError: data are missing; nothing is written.
        TrainingDiverged, StorageError, OutOfMemory: masks finished before stay stored.

    Example:
        >>> from impress_learn import MaskFit, create_bank
        >>> bank = create_bank("three.impress", ["rotated-digits/0:360:120"], fit=MaskFit(epochs=1))
        >>> len(bank.manifest.masks)
        3
    """
    path = Path(path)
    check_number("adapt", adapt, least=0, most=MAX_SIDE)
    require(not adapt or weights is not None, "`adapt` moves what others trained: give `weights`")
    tasks = parse_references(references, groups)
    plans = plan_masks(
        tasks,
        fit.for_network(backbone),
        masks_per_task=masks_per_task,
        random_masks=random_masks,
        density=density,
        mask_type=mask_type,
        allocation=allocation,
    )
    check_can_create(path)

    from impress_learn.features.features import classifier_name
    from impress_learn.network.build import build_backbone, usual_side
    from impress_learn.network.pretrained import load_weights
    from impress_learn.streams.view import view_shape
    from impress_learn.train_masks import (
        keep_calibration_images,
        keep_projection,
        keep_recogniser,
        mask_bytes,
        sole_trainer,
    )

    where = choose_device(device)
    there = open_bank(path) if is_there(path / MANIFEST) else None
    side = usual_side(backbone)
    view = choose_view(tasks, size=image_size, mode=image_mode, photo_size=side)
    pretrained = None
    if weights is not None:
        require(backbone.startswith("timm:"), f"`weights` {weights}: `backbone` {backbone} has none: use timm:NAME")
        require(image_mode != "L", "`image_mode` L: networks that others trained take RGB")
        pretrained = load_weights(weights, backbone, None if there is None else there.backbone.pretrained)
        view = pretrained_view(view, size=image_size or side, mean=pretrained.mean, std=pretrained.std)
    network = build_backbone(
        backbone,
        init=init,
        seed=fit.seed,
        input_shape=view_shape(view),
        classes=count_classes(tasks),
        weights=pretrained,
        there=None if there is None else there.manifest,
        remark=watch.remark,
    )
    heads = pretrained is not None and classifier_name(network) is not None
    view = _settle_view(
        tasks,
        view,
        there,
        needs_data=there is None or _needs_data(there, heads=heads),
        measure=pretrained is None,
        data_dir=data_dir,
        holdout=fit.holdout,
        watch=watch,
    )
    make_folder(path)
    with sole_trainer(path):
        check_writable(path, mask_bytes(network.spec, mask_type))
        planned = plan_bank(
            network.spec,
            plans,
            view,
            shared_class_names(tasks, data_dir),
            mask_classes(tasks, data_dir),
            seed=fit.seed,
            calibration=network.has_batch_norm,
            # Features tell photos apart, pixels do not (docs/results.md, Which task).
            recogniser=not heads,
        )
        bank = write_plan(path, planned)
        keep_calibration_images(bank, tasks, data_dir=data_dir, holdout=fit.holdout)
        keep_recogniser(bank, tasks, data_dir=data_dir, holdout=fit.holdout, device=where)
        keep_projection(bank, tasks, epochs=adapt, data_dir=data_dir, holdout=fit.holdout, device=where, watch=watch)
        train_planned(bank, data_dir, where, watch)
    return bank


def _settle_view(
    tasks: Sequence[Reference],
    view: Preprocess,
    there: Bank | None,
    *,
    needs_data: bool,
    measure: bool,
    data_dir: Path | None,
    holdout: float,
    watch: Watch,
) -> Preprocess:
    """How a new bank's images are made, as far as only they can tell: their scale, their mean and deviation.

    Args:
        there: the bank that an interrupted run left, which keeps what it has.
        needs_data: whether the images are wanted still; they are then read, so that what is missing is found now.
        measure: whether mean and deviation of images of any size are measured: nobody knows them before.

    Raises:
        DataError: the data are missing, or have two scales.
    """
    from msgspec.structs import replace as replace_fields

    from impress_learn.streams.load import check_data, measured_view, spanned_view
    from impress_learn.streams.span import in_words

    kept = None if there is None else there.manifest.preprocess
    if there is not None and kept is not None and not is_empty(there):
        view = replace_fields(view, crop=kept.crop, span=kept.span)
    elif needs_data:
        view = spanned_view(tasks, view, data_dir=data_dir)
        if view.span is not None:
            watch.remark(f"images of more than 8 bits: {in_words(*view.span)} become black … white, in this bank")
    if needs_data:
        check_data(tasks, data_dir=data_dir, view=view, watch=watch)
    if tasks[0].data_set.input_shape is not None or not measure:
        return view
    if kept is not None:
        return replace_fields(view, mean=kept.mean, std=kept.std)
    return measured_view(tasks[0], view, data_dir=data_dir, holdout=holdout)


def _needs_data(bank: Bank, *, heads: bool) -> bool:
    """Whether images are wanted still: for masks, or for what signatures or heads stand on."""
    return bool(
        bank.missing_masks()
        or (bank.manifest.recogniser and not is_there(bank.recogniser_path))
        or (heads and not bank.has_projection)
    )
