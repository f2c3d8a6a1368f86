"""The best task that a file of so many bytes holds: which parts it is given (docs/method.md, Byte budget)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from impress_format.bank import Bank
from impress_format.errors import UsageError
from impress_format.parts.head import whole_dimensions
from impress_format.parts.residual import residual_layers
from impress_format.tasks.file import seal_task
from impress_format.versions import require_version
from impress_learn.parts.head import DIMENSIONS
from impress_learn.parts.residual import usual_layers
from impress_learn.parts.table import Bits, Parts, blank_parts
from impress_learn.plan.few import FEW, may_vote, voting
from impress_learn.plan.tasks import TaskRequest, task_record
from impress_learn.streams.held_out import count_training

LEAST_RESIDUAL = 16
"""Bytes of a residual below which it is left out beside alpha, and beside a head."""
HEAD_BITS: Bits = 2
"""Of a value of a head: of one or four it is worse in the same bytes (docs/results.md, Heads)."""
FEW_IMAGES, SOME_IMAGES = 100, FEW
"""From fewer than these there is no residual beside alpha, from fewer than those a trial decides: at 50 images one of
800 bits cost 5 points, at 200 half a point; at 494 images of 26 classes one of 3,200 bits won 15."""
_LONGEST = 0.1234
"""No accuracy takes more characters."""


def parts_within(bank: Bank, request: TaskRequest, size: int) -> tuple[Parts, ...]:
    """The parts that make the most of a file of `size` bytes, everything included; of several, the images choose.

    Alpha with one coefficient a mask and layer comes first: no other bytes do as much where tasks are related, and few
    are lost where they are not. All that is left goes to a residual of one bit a value: measured, it beats more channel
    groups and more bits a value at every size (docs/results.md, Byte budget). From few images it is left out: it learns
    them by heart. From somewhat more, whether it does depends on the task.

    Over pretrained weights a head comes first, of up to 128 dimensions, and all that is left goes to a residual; from
    few images to more dimensions.

    Where no residual fits, or images are fewer than 1,000, masks may vote, which takes fewer bytes: that comes first.

    Args:
        request: names the task and how it is learned; of its parts the signature counts, and whether there is a head.

    Raises:
        UsageError: not even the smallest task fits.
        BankMismatch: format version 1 has no residual.
    """
    require_version(bank.path, bank.manifest.format_version, "which has no residual")
    bare = Parts(alpha=False, head=0, vote=False, signature=request.parts.signature)
    if request.parts.reads_out:
        return (_head_within(bank, request, bare, size),)
    alpha = replace(bare, alpha=True, alpha_dtype="int8")
    vote = (voting(bare.signature),) if request.parts.vote is None and may_vote(bank, request) else ()
    if bank.manifest.masks and task_bytes(bank, request, alpha) <= size:
        images = count_training(request.reference.data_set, request.fit.holdout, request.fit.shots)
        both = _with_residual(bank, request, alpha, size)
        if both is None or both.values < 8 * LEAST_RESIDUAL or images < FEW_IMAGES:
            return (*vote, alpha)
        return (both,) if images >= SOME_IMAGES else (*vote, alpha, both)
    alone = _with_residual(bank, request, bare, size)
    choices = tuple(one for one in (*vote, alone) if one is not None and task_bytes(bank, request, one) <= size)
    if choices:
        return choices
    smallest = [_one_bit(bare, _least_bytes(bank, bare)), *([alpha] if bank.manifest.masks else []), *vote]
    raise _too_small(bank, request, size, min(task_bytes(bank, request, parts) for parts in smallest))


def task_bytes(bank: Bank, request: TaskRequest, parts: Parts) -> int:
    """Bytes of the file of a task with these parts, at most: accuracies may take fewer characters."""
    asked = replace(request, parts=parts)
    record = task_record(bank, asked, _LONGEST, _LONGEST)
    return len(seal_task(record, blank_parts(bank, parts, request.classes.count), bank.manifest))


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
        beside = replace(of(min(found, DIMENSIONS)), residual_layers=usual_layers(bank.backbone))
        both = _with_residual(bank, request, beside, size)
        if both is not None and both.values >= 8 * LEAST_RESIDUAL:
            return both
    return of(found)


def _too_small(bank: Bank, request: TaskRequest, size: int, least: int) -> UsageError:
    return UsageError(
        f"`bytes` {size}: the smallest task of {request.reference} in {bank.path} takes {least}"
        + ("; without a signature (`signature=False`) about 67 less" if request.parts.signature else "")
    )


def _with_residual(bank: Bank, request: TaskRequest, parts: Parts, size: int) -> Parts | None:
    """These parts with the largest residual of one bit a value that fits; None if none does."""

    def fits(count: int) -> bool:
        return task_bytes(bank, request, _one_bit(parts, count)) <= size

    weights = sum(layer.size for layer in residual_layers(bank.backbone, parts.residual_layers or 0))
    found = _largest(fits, _least_bytes(bank, parts), min(weights // 8, size))
    return None if found is None else _one_bit(parts, found)


def _one_bit(parts: Parts, count: int) -> Parts:
    """These parts with a residual whose values, a bit each, take `count` bytes."""
    return replace(parts, residual=8 * count, residual_bits=1)


def _least_bytes(bank: Bank, parts: Parts) -> int:
    """Bytes of the values of the smallest residual: one value a layer."""
    return -(-len(residual_layers(bank.backbone, parts.residual_layers or 0)) // 8)


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest number from `low` to `high` that fits, where all smaller ones do."""
    if high < low or not fits(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
