"""The whole jobs, each one call: create a bank, extend it, add tasks, update one, evaluate.

A job first looks for all that could stop it (settings, data, space on the disk, a name that is taken), then holds its
lock, resumes what an interrupted run left, and computes. torch is imported when that has been found in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from impress_format.bank import MANIFEST, Bank, open_bank
from impress_format.create import check_can_create, extend_plan, still_to_plan, write_plan
from impress_format.errors import BankMismatch, TaskNotFound, UsageError
from impress_format.files import check_writable, is_there, make_folder, remove_abandoned
from impress_format.limits import MAX_SIDE
from impress_format.locks import hold
from impress_format.records import Allocation, Init, MaskType, ResidualBits, alpha_columns
from impress_format.task_store import TASKS
from impress_learn.classes import check_sayable, mask_classes
from impress_learn.fits import UPDATE_FIT, MaskFit, TaskFit, check_holdout, check_number, require
from impress_learn.held_out import check_basis_held_out, check_held_out, check_same_split
from impress_learn.plan import (
    Parts,
    TaskRequest,
    check_fit_is_kept,
    check_fits_bank,
    check_parts,
    check_same_classes,
    check_start,
    choose_layers,
    choose_type,
    choose_view,
    count_classes,
    mask_steps,
    plan_bank,
    plan_masks,
    pretrained_view,
    request_tasks,
    request_update,
    require_room,
    settle_fit,
    shared_class_names,
    still_to_add,
    task_steps,
    usual_head,
)
from impress_learn.streams.reference import Reference, parse_one, parse_references
from impress_learn.watch import SILENT, Watch

if TYPE_CHECKING:
    import torch

    from impress_format.numbers import NumberType
    from impress_format.records import Preprocess
    from impress_format.task_parts import StoredTask
    from impress_learn.evaluate import Accuracy
    from impress_learn.tasks import AddedTask


_TASK_HEADER_BYTES = 4096


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
    device: Callable[[], torch.device] | None = None,
    data_dir: Path | None = None,
    watch: Watch = SILENT,
) -> Bank:
    """Train a bank of masks, or what is missing of one that an interrupted run with the same settings left.

    Args:
        references: `STREAM/KEY`, or slices of keys.
        weights: that others trained, for a timm model: FILE.safetensors, `timm:TAG` or `hf-hub:OWNER/NAME`, the last
            two also with `@REVISION`. The bank names them and does not hold them.
        mask_type: what the ones of a mask weigh: 1, a sign each, or a number each.
        allocation: whether all layers have this density, or small ones more (Erdős–Rényi).
        image_size: height and width that all images are made; None for their own, or, where they have none, for what
            the network is made for.
        image_mode: grey (L) or RGB; None for as they are.
        adapt: passes over the tasks' images in which a pretrained network is first moved towards them, for all heads
            that will stand on it; kept in the bank, four bits a weight.
        groups: of a person's own images, a pattern that tells which belong together (a patient's, a video's): none of
            these are both learned from and tested on. Part of the tasks' references.
        device: gives the device, asked once the settings are found in order; default the CPU.

    Raises:
        UsageError: settings that do not fit, or another bank at `path`; nothing is written.
        DataError: data are missing; nothing is written.
        TrainingDiverged, StorageError, OutOfMemory: masks finished before stay stored.
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

    from impress_learn.head.features import classifier_name
    from impress_learn.network.build import build_backbone, stored_backbone, usual_side
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
    shape, classes = view_shape(view), count_classes(tasks)
    network = None
    if there is not None:  # given again, the command is held to the rules that the bank was made by
        network = stored_backbone(
            there.manifest,
            backbone,
            init=init,
            seed=fit.seed,
            input_shape=shape,
            classes=classes,
            weights=pretrained,
        )
    if network is None:
        network = build_backbone(
            backbone,
            init=init,
            seed=fit.seed,
            input_shape=shape,
            classes=classes,
            weights=pretrained,
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
        _train(bank, data_dir, where, watch)
    return bank


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
    device: Callable[[], torch.device] | None = None,
    data_dir: Path | None = None,
    watch: Watch = SILENT,
) -> Bank:
    """Train more masks for a bank; stored tasks stay valid, masks it has are not trained again.

    Args:
        density, mask_type, allocation: default those of the first mask, or .1, binary and uniform where there is none.
        groups: as create_bank.

    Raises:
        As create_bank.
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
    if bank.manifest.format_version == 1 and not all(plan.is_of_version_1 for plan in plans):
        raise BankMismatch(
            f"{bank.path} has format version 1, whose masks are binary, of one density in all layers and trained by "
            "plain SGD: run `impress bank upgrade` first"
        )

    require_room(len(bank.manifest.masks) + len(still_to_plan(bank, plans)), len(tasks), masks_per_task, random_masks)

    from impress_learn.streams.load import check_data
    from impress_learn.train_masks import mask_bytes, sole_trainer

    where = choose_device(device)
    check_data(tasks, data_dir=data_dir, view=bank.manifest.preprocess, watch=watch)
    with sole_trainer(bank.path):
        check_writable(bank.path, max(mask_bytes(bank.backbone, plan.type) for plan in plans) if plans else 0)
        bank = extend_plan(open_bank(path), plans, mask_classes(tasks, data_dir))
        _train(bank, data_dir, where, watch)
    return bank


def add_tasks(
    path: Path | str,
    references: Sequence[str],
    *,
    fit: TaskFit = TaskFit(),  # noqa: B008  frozen
    name: str | None = None,
    granularity: int = 1,
    alpha: bool | None = None,
    alpha_dtype: NumberType | None = None,
    residual: int = 0,
    residual_bits: ResidualBits = 1,
    residual_layers: int | None = None,
    hybrid: bool = False,
    head: int | None = None,
    head_bits: ResidualBits = 2,
    bytes: int | None = None,
    signature: bool = True,
    warm_start: str | None = None,
    groups: str | None = None,
    device: Callable[[], torch.device] | None = None,
    data_dir: Path | None = None,
    watch: Watch = SILENT,
) -> list[AddedTask]:
    """Learn tasks and store them; those that are stored already with these settings are left as they are.

    Args:
        granularity: groups of output channels in each layer that have coefficients of their own.
        alpha: whether the tasks weigh the bank's masks; without it they are a residual alone. None: unless they have a
            head.
        residual: bits, in all, of values that all weights share (method.md), 0 for none.
        residual_bits: of these for each value.
        residual_layers: beside a head, the last layers before the classifier that the residual is of; None for as many
            as hold a quarter of the weights.
        hybrid: a mask of its own in the last layer, in place of coefficients there.
        head: dimensions of a head over pretrained weights, in place of coefficients; None for 128 where the bank has
            such weights and `alpha` is not asked for.
        head_bits: of a value of the head.
        bytes: the best task in a file of so many bytes (budget.py), instead of the settings above; over pretrained
            weights `alpha` may say that it is to weigh masks.
        alpha_dtype: int8 if it is not given, or float32 in a bank of format version 1, which knows no other.
        signature: also store what images of the tasks are recognised by; banks that nothing was made for it have none.
        warm_start: the stored task that they begin from (method.md, drift), by name or reference; with `shots` a ridge
            holds them near it.
        groups: as create_bank.

    Returns:
        One for each reference, in order.

    Raises:
        UsageError, DataError, StorageError: nothing was started.
        TrainingDiverged, OutOfMemory: tasks finished before stay stored.
    """
    bank = open_bank(path)
    tasks = parse_references(references, groups)
    if bytes is not None and (
        (granularity, alpha_dtype, residual, residual_layers, hybrid, head or 0) != (1, None, 0, None, False, 0)
        or alpha is False
    ):
        raise UsageError(
            "`bytes` chooses the parts: leave out `granularity`, `alpha_dtype`, `residual`, `hybrid` and the like"
        )
    if head is None:
        head = usual_head(bank) if not (alpha or hybrid or alpha_dtype) else 0
    if not head:
        check_fits_bank(tasks, bank.backbone)
    require(residual >= 0, f"`residual` {residual}: expected 0 or more bits")
    require(
        residual_layers is None or (residual > 0 and head > 0),
        f"`residual_layers` {residual_layers} is of a residual beside a head: give `residual` and `head` too",
    )
    parts = Parts(
        granularity=granularity,
        alpha_type=choose_type(bank, alpha_dtype) if alpha or (alpha is None and not head) else None,
        residual=residual // residual_bits,
        residual_bits=residual_bits if residual else 0,
        residual_layers=choose_layers(bank.backbone, residual_layers) if residual and head else 0,
        hybrid=hybrid,
        head=head,
        head_bits=head_bits if head else 0,
        signed=signature and bank.signs_by is not None,
    )
    if bytes is None:
        check_parts(bank, parts)
    start = None if warm_start is None else bank.read_stored(bank.find_task(warm_start))
    requests = request_tasks(tasks, fit, name=name, parts=parts, data_dir=data_dir, start=start)
    masks = bank.complete_masks()
    for request in requests:
        check_fit_is_kept(bank, request.fit)
    for task in tasks:
        check_sayable(bank, task)
        check_same_split(bank, str(task))
        check_basis_held_out(bank, str(task), fit.holdout)
    if bytes is not None:
        from impress_learn.budget import parts_within

        choices = [parts_within(bank, one, bytes) for one in requests]
        requests = [_choose(one, fit, parts, start) for one, parts in zip(requests, choices, strict=True)]
        trial = ", the last if a trial on held-out images says so" if len(choices[0]) > 1 else ""
        watch.remark(f"{bytes:,} bytes hold {_in_words(choices[0][-1], masks)}{trial}")
    if start is not None:
        for request in requests:
            check_start(start, request)
    missing = still_to_add(bank, requests)
    if len(missing) < len(requests):
        watch.remark(f"{len(requests) - len(missing)} of {len(requests)} tasks are there already")
    learned = _learn(bank, missing, masks, choose_device(device) if missing else None, data_dir, watch)

    from impress_learn.tasks import stored_task

    return [learned.get(request.name) or stored_task(bank, request.name) for request in requests]


def update_task(
    path: Path | str,
    task: str,
    reference: str,
    *,
    fit: TaskFit = UPDATE_FIT,
    groups: str | None = None,
    device: Callable[[], torch.device] | None = None,
    data_dir: Path | None = None,
    watch: Watch = SILENT,
) -> AddedTask:
    """Resume learning a stored task on other data (drift); its file is replaced. Given again it changes nothing.

    Args:
        groups: as create_bank.

    Raises:
        As add_tasks. StorageError also where another process is updating this task.
    """
    bank = open_bank(path)
    data = parse_one(reference, groups)
    asked = settle_fit(data, fit)
    check_fit_is_kept(bank, asked)
    bank.complete_masks()
    name = bank.find_task(task)
    check_same_classes(bank, bank.read_task_record(name), data, data_dir)
    # Two updates at once would both begin from the same alpha, and the second would undo the first.
    lock = bank.path / TASKS / f".{name}.lock"
    with hold(lock, wait=False, busy=f"another process is updating task {name}: wait for it to end", remove=True):
        remove_abandoned(bank.path / TASKS)
        stored = bank.read_task_record(name)
        request = request_update(bank, name, data, asked)
        if request is None:
            from impress_learn.tasks import stored_task

            watch.remark("updated with these settings already: give another `seed` to update it once more")
            return stored_task(bank, name)
        check_held_out(name, stored.task, stored.fit.holdout, fit.holdout)
        check_same_split(bank, str(data), stored.task)
        check_basis_held_out(bank, str(data), fit.holdout)
        assert request.start is not None
        return _learn(bank, [request], len(request.start.alpha), choose_device(device), data_dir, watch)[name]


def evaluate(
    path: Path | str,
    tasks: Sequence[str] = (),
    *,
    basis: bool = False,
    wrong_mask: bool = False,
    holdout: float = 0.0,
    device: Callable[[], torch.device] | None = None,
    data_dir: Path | None = None,
    watch: Watch = SILENT,
) -> list[Accuracy]:
    """Accuracy of stored tasks, all if none is named, or with `basis` of the masks on their own tasks.

    Args:
        wrong_mask: the control: each task under masks that were trained for other tasks.
        holdout: measure on this share of the training images, held out in training, instead of the test images.

    Raises:
        UsageError: an unknown task, or images that were not held out.
        DataError, FormatError, BackboneMismatch, OutOfMemory.
    """
    check_holdout(holdout)
    bank = open_bank(path)
    if basis and tasks:
        raise UsageError("`basis` evaluates the masks: leave out the names of tasks")
    names = [bank.find_task(task) for task in tasks] if tasks else bank.task_names()
    if not names and not basis:
        raise TaskNotFound(f"{path} has no task yet: add one with `impress task add`, or use `basis`")
    bank.complete_masks()

    from impress_learn.evaluate import mask_items, measure, own_weights, task_items, wrong_weights
    from impress_learn.loaded import load_bank

    items = mask_items(bank) if basis else task_items(bank, names)
    for item in items:
        name = item.name if item.mask is None else f"mask {item.mask}"
        check_held_out(name, item.task, item.holdout, holdout)
        if wrong_mask or not basis:
            check_basis_held_out(bank, item.task, holdout)
    loaded = load_bank(bank, choose_device(device))
    weights_of = wrong_weights(loaded) if wrong_mask else own_weights(loaded)
    watch.begin(len(items))
    return measure(loaded, items, weights_of, holdout=holdout, data_dir=data_dir, watch=watch)


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

    from impress_learn.span import in_words
    from impress_learn.streams.load import check_data, measured_view, spanned_view

    kept = None if there is None else there.manifest.preprocess
    if needs_data:
        view = spanned_view(tasks, view, data_dir=data_dir)
        if view.span is not None:
            watch.remark(f"images of more than 8 bits: {in_words(*view.span)} become black … white, in this bank")
        check_data(tasks, data_dir=data_dir, view=view, watch=watch)
    elif kept is not None:
        view = replace_fields(view, crop=kept.crop, span=kept.span)
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


def _train(bank: Bank, data_dir: Path | None, device: torch.device, watch: Watch) -> None:
    from impress_learn.train_masks import train_missing_masks

    missing = bank.missing_masks()
    planned = len(bank.manifest.masks)
    if not missing:
        if planned:
            watch.remark(f"{bank.path} is complete: all {planned} masks are there")
        return
    if len(missing) < planned:
        watch.remark(f"{planned - len(missing)} of {planned} masks are there, training the rest")
    watch.begin(sum(mask_steps(bank.manifest.masks[index]) for index in missing))
    train_missing_masks(
        bank,
        data_dir=data_dir,
        device=device,
        on_mask=lambda index: watch.describe(f"mask {index + 1} of {planned}: {bank.manifest.masks[index].label}"),
        on_step=watch.step,
        remark=watch.remark,
    )


def _learn(
    bank: Bank,
    requests: Sequence[TaskRequest],
    masks: int,
    device: torch.device | None,
    data_dir: Path | None,
    watch: Watch,
) -> dict[str, AddedTask]:
    if not requests or device is None:
        return {}
    from impress_learn.head.features import classifiers
    from impress_learn.loaded import load_bank
    from impress_learn.memory import explain_memory
    from impress_learn.streams.load import check_data
    from impress_learn.tasks import add_task

    columns = max(sum(alpha_columns(bank.backbone.masked_layers, request.parts.granularity)) for request in requests)
    make_folder(bank.path / TASKS)
    check_writable(bank.path / TASKS, 4 * masks * columns + _TASK_HEADER_BYTES)
    references: list[Reference] = [request.reference for request in requests]
    check_data(references, data_dir=data_dir, view=bank.manifest.preprocess, watch=watch)
    loaded = load_bank(bank, device)
    if len(found := classifiers(loaded.backbone)) > 1 and any(request.parts.hybrid for request in requests):
        last = bank.backbone.masked_layers[-1].name
        watch.remark(
            f"{bank.backbone.arch} has {len(found)} classifiers ({', '.join(found)}): `hybrid` gives the last of its "
            f"layers a mask, {last}, and coefficients weigh the bank's masks in the others"
        )
    watch.begin(sum(map(task_steps, requests)))
    learned = {}
    for number, request in enumerate(requests, start=1):
        watch.describe(f"task {number} of {len(requests)}: {request.reference}")
        batch = request.fit.batch_size
        with explain_memory(
            f"learning {request.name} with batches of {batch:,} images",
            device,
            lambda _, batch=batch: f"try `batch_size` {max(1, batch // 4)}",  # type: ignore[misc]
        ):
            learned[request.name] = add_task(loaded, request, data_dir=data_dir, watch=watch)
    return learned


def _choose(request: TaskRequest, fit: TaskFit, choices: Sequence[Parts], start: StoredTask | None) -> TaskRequest:
    """The request with the first of these parts, and the second, if there is one, to be tried instead."""
    first, *second = (
        replace(
            request,
            parts=parts,
            fit=settle_fit(request.reference, fit, residual=parts.residual, start=start),
        )
        for parts in choices
    )
    return replace(first, instead=second[0]) if second else first


def _in_words(parts: Parts, masks: int) -> str:
    """What a task is made of."""
    words = []
    if parts.alpha_type is not None:
        words.append(f"coefficients of {masks:,} masks")
    if parts.head:
        words.append(f"a head of {parts.head:,} dimensions")
    if parts.residual:
        words.append(f"a residual of {parts.residual:,} bits" + ("" if words else ", as no mask fits beside it"))
    if parts.signed:
        words.append("a signature")
    return " and ".join(words)


def choose_device(choose: Callable[[], torch.device] | None) -> torch.device:
    """The device that `choose` gives, or the CPU. torch is imported here."""
    if choose is not None:
        return choose()
    import torch

    return torch.device("cpu")
