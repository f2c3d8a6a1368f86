"""Learn tasks and store them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import open_bank
from impress_format.errors import UsageError
from impress_format.records import ResidualBits
from impress_learn.classes import check_sayable
from impress_learn.device import Device, choose_device
from impress_learn.fits import TaskFit, require
from impress_learn.held_out import check_basis_held_out, check_same_split, check_start_held_out
from impress_learn.jobs.requests import learn_requests
from impress_learn.plan.parts import Parts, check_parts, choose_layers, choose_type, usual_head
from impress_learn.plan.tasks import (
    TaskRequest,
    check_fit_is_kept,
    check_fits_bank,
    check_start,
    request_tasks,
    settle_fit,
    still_to_add,
)
from impress_learn.streams.reference import Reference, parse_references
from impress_learn.watch import SILENT, Watch

if TYPE_CHECKING:
    from impress_format.numbers import NumberType
    from impress_format.task_parts import StoredTask
    from impress_learn.tasks import AddedTask


def add_tasks(
    path: Path | str,
    references: Sequence[str | Reference],
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
    device: Device = None,
    data_dir: Path | None = None,
    watch: Watch = SILENT,
) -> list[AddedTask]:
    """Learn tasks and store them; those that are stored already with these settings are left as they are.

    Args:
        path: the bank's folder.
        references: the tasks: `STREAM/KEY`, slices of keys, `folder:PATH`, or references that were read already.
        fit: how they are learned: epochs, learning rate, few images a class (`shots`), seed and so on.
        name: what the one task is to be called; None for a name that its reference makes.
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
        bytes: the best task in a file of so many bytes (plan/budget.py), instead of the settings above; over pretrained
            weights `alpha` may say that it is to weigh masks.
        alpha_dtype: int8 if it is not given, or float32 in a bank of format version 1, which knows no other.
        signature: also store what images of the tasks are recognised by; banks that nothing was made for it have none.
        warm_start: the stored task that they begin from (method.md, drift), by name or reference; with `shots` a ridge
            holds them near it.
        groups: of a person's own images, a pattern that tells which belong together (a patient's, a video's): none of
            these are both learned from and tested on. Part of the tasks' references.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        watch: is told how it goes.

    Returns:
        One for each reference, in order.

    Raises:
        UsageError, DataError, StorageError: nothing was started.
        TrainingDiverged, OutOfMemory: tasks finished before stay stored.

    Example:
        >>> from impress_learn import TaskFit, add_tasks
        >>> (added,) = add_tasks("build/demo.impress", ["rotated-digits/45"], fit=TaskFit(epochs=1))
        >>> added.name, added.coefficients
        ('rotated-digits-45', 9)
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
        check_same_split(bank, str(task), None if start is None else start.record.task)
        if start is not None:
            check_start_held_out(start.record, str(task), fit.holdout)
        check_basis_held_out(bank, str(task), fit.holdout)
    if bytes is not None:
        from impress_learn.plan.budget import parts_within

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
    learned = learn_requests(bank, missing, masks, choose_device(device) if missing else None, data_dir, watch)

    from impress_learn.tasks import stored_task

    return [learned.get(request.name) or stored_task(bank, request.name) for request in requests]


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
