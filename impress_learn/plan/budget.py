"""The best task that a file of so many bytes holds: which parts it is given (docs/method.md, Byte budget)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, UsageError
from impress_format.head import store_head, whole_dimensions
from impress_format.numbers import store
from impress_format.records import SIGNATURE_BYTES, ResidualBits, TaskRecord
from impress_format.residual import store_residual
from impress_format.task_file import seal_task
from impress_format.task_parts import TaskParts, count_columns
from impress_learn.classes import count_to_store, names_to_store
from impress_learn.held_out import count_training
from impress_learn.plan.parts import HEAD_DIMENSIONS, Parts, choose_layers
from impress_learn.plan.tasks import TaskRequest

LEAST_RESIDUAL = 16
"""Bytes of a residual below which it is left out beside alpha, and beside a head."""
HEAD_BITS: ResidualBits = 2
"""Of a value of a head: of one or four it is worse in the same bytes (docs/results.md, Heads)."""
FEW_IMAGES, SOME_IMAGES = 100, 1000
"""From fewer than these there is no residual beside alpha, from fewer than those a trial decides: at 50 images one of
800 bits cost 5 points, at 200 half a point; at 494 images of 26 classes one of 3,200 bits won 15."""
_LONGEST = 0.1234
"""No accuracy takes more characters."""


def parts_within(bank: Bank, request: TaskRequest, size: int) -> tuple[Parts, ...]:
    """The parts that make the most of a file of `size` bytes, everything included; of two, a trial is to choose.

    Alpha with one coefficient a mask and layer comes first: no other bytes do as much where tasks are related, and few
    are lost where they are not. All that is left goes to a residual of one bit a value: measured, it beats more channel
    groups and more bits a value at every size (docs/results.md, Byte budget). From few images it is left out: it learns
    them by heart. From somewhat more, whether it does depends on the task.

    Over pretrained weights a head comes first, of up to 128 dimensions, and all that is left goes to a residual; from
    few images to more dimensions.

    Args:
        request: names the task and how it is learned; of its parts `signed` counts, and whether there is a head.

    Raises:
        UsageError: not even the smallest task fits.
        BankMismatch: format version 1 has no residual.
    """
    if bank.manifest.format_version == 1:
        raise BankMismatch(f"{bank.path} has format version 1, which has no residual: run `impress bank upgrade` first")
    bare = Parts(alpha_type=None, signed=request.parts.signed)
    if request.parts.head:
        return (_head_within(bank, request, bare, size),)
    alpha = replace(bare, alpha_type="int8")
    if bank.manifest.masks and task_bytes(bank, request, alpha) <= size:
        images = count_training(request.reference.data_set, request.fit.holdout, request.fit.shots)
        both = _with_residual(bank, request, alpha, size)
        if both is None or both.residual < 8 * LEAST_RESIDUAL or images < FEW_IMAGES:
            return (alpha,)
        return (both,) if images >= SOME_IMAGES else (alpha, both)
    alone = _with_residual(bank, request, bare, size)
    if alone is not None:
        return (alone,)
    smallest = [_one_bit(bare, _least_bytes(bank, bare)), *([alpha] if bank.manifest.masks else [])]
    raise _too_small(bank, request, size, min(task_bytes(bank, request, parts) for parts in smallest))


def task_bytes(bank: Bank, request: TaskRequest, parts: Parts) -> int:
    """Bytes of the file of a task with these parts, at most: accuracies may take fewer characters."""
    layers = bank.backbone.residual_layers(parts.residual_layers)
    masks = len(bank.manifest.masks)
    alpha = None
    if parts.alpha_type is not None:
        alpha = store(
            np.ones((masks, count_columns(bank.manifest, parts.granularity, hybrid=False)), np.float32),
            parts.alpha_type,
        )
    residual = None
    if parts.residual:
        scales = np.zeros(len(layers), dtype=np.float16)
        residual = store_residual(np.zeros(parts.residual, dtype=np.uint8), scales, parts.residual_bits)
    head, classes = None, request.classes.count
    if parts.head:
        rows = np.zeros(classes, dtype=np.float16)
        head = store_head(np.zeros((classes, parts.head), dtype=np.uint8), rows, rows, parts.head_bits)
    record = TaskRecord(
        name=request.name,
        task=str(request.reference),
        basis=bank.basis_digest(0 if alpha is None else masks, parts.head > 0),
        accuracy=_LONGEST,
        train_accuracy=_LONGEST,
        fit=request.fit,
        granularity=parts.granularity,
        residual_bits=parts.residual_bits,
        head_bits=parts.head_bits,
        residual_layers=parts.residual_layers,
        classes=count_to_store(bank, request.classes),
        class_names=names_to_store(bank, request.reference, request.classes),
    )
    signature = bytes(SIGNATURE_BYTES) if parts.signed else None
    stored = TaskParts(alpha=alpha, residual=residual, head=head, signature=signature)
    return len(seal_task(record, stored, bank.manifest))


def _head_within(bank: Bank, request: TaskRequest, bare: Parts, size: int) -> Parts:
    """The head, and the residual beside it, that make the most of a file of `size` bytes.

    Raises:
        UsageError: not even the smallest head fits.
    """
    classes, most = request.classes.count, bank.directions

    def of(dimensions: int) -> Parts:
        return replace(bare, head=whole_dimensions(classes, dimensions, HEAD_BITS), head_bits=HEAD_BITS)

    def fits(dimensions: int) -> bool:
        return task_bytes(bank, request, of(dimensions)) <= size

    least = next(some for some in range(1, most + 1) if of(some).head)
    if (found := _largest(fits, least, most)) is None:
        raise _too_small(bank, request, size, task_bytes(bank, request, of(least)))
    if count_training(request.reference.data_set, request.fit.holdout, request.fit.shots) >= FEW_IMAGES:
        beside = replace(of(min(found, HEAD_DIMENSIONS)), residual_layers=choose_layers(bank.backbone, None))
        both = _with_residual(bank, request, beside, size)
        if both is not None and both.residual >= 8 * LEAST_RESIDUAL:
            return both
    return of(found)


def _too_small(bank: Bank, request: TaskRequest, size: int, least: int) -> UsageError:
    return UsageError(
        f"`bytes` {size}: the smallest task of {request.reference} in {bank.path} takes {least}"
        + ("; without a signature (`signature=False`) about 130 less" if request.parts.signed else "")
    )


def _with_residual(bank: Bank, request: TaskRequest, parts: Parts, size: int) -> Parts | None:
    """These parts with the largest residual of one bit a value that fits; None if none does."""

    def fits(count: int) -> bool:
        return task_bytes(bank, request, _one_bit(parts, count)) <= size

    weights = sum(layer.size for layer in bank.backbone.residual_layers(parts.residual_layers))
    found = _largest(fits, _least_bytes(bank, parts), min(weights // 8, size))
    return None if found is None else _one_bit(parts, found)


def _one_bit(parts: Parts, count: int) -> Parts:
    """These parts with a residual whose values, a bit each, take `count` bytes."""
    return replace(parts, residual=8 * count, residual_bits=1)


def _least_bytes(bank: Bank, parts: Parts) -> int:
    """Bytes of the values of the smallest residual: one value a layer."""
    return -(-len(bank.backbone.residual_layers(parts.residual_layers)) // 8)


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest number from `low` to `high` that fits, where all smaller ones do."""
    if high < low or not fits(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
