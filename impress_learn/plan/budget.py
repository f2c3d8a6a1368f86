"""The best task that so many bytes hold, in a file or a packet: its parts (docs/method.md, Byte budget)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from impress_format.bank import Bank
from impress_format.errors import UsageError
from impress_format.parts.head import whole_dimensions
from impress_format.parts.residual import residual_layers
from impress_format.tasks.file import seal_task
from impress_format.tasks.packet import packet_bytes
from impress_format.versions import require_version
from impress_learn.parts.head import DIMENSIONS
from impress_learn.parts.residual import usual_layers
from impress_learn.parts.table import Bits, Parts, blank_parts
from impress_learn.plan.few import FEW, may_vote, voting
from impress_learn.plan.tasks import TaskRequest, settings_of, task_record
from impress_learn.streams.held_out import count_training

LEAST_RESIDUAL = 16
"""Bytes of a residual below which it is left out beside alpha, and beside a head."""
HEAD_BITS: Bits = 2
"""Bits of a value of a head. With one or four bits a head is worse in the same bytes (docs/trials.md, Heads)."""
FEW_IMAGES, SOME_IMAGES = 100, FEW
"""From fewer than these there is no residual beside alpha, from fewer than those a trial decides: at 50 images one of
800 bits cost 5 points, at 200 half a point; at 494 images of 26 classes one of 3,200 bits won 15."""
_LONGEST = 0.1234
"""No accuracy takes more characters."""


@dataclass(frozen=True)
class Room:
    """How many bytes a task may take: as a file, everything included, or as a packet, without its signature."""

    size: int
    packet: bool = False

    @classmethod
    def of(cls, asked: Parts) -> Room | None:
        """What was asked for; None where nothing was."""
        if asked.packet is not None:
            return cls(asked.packet, packet=True)
        return None if asked.bytes is None else cls(asked.bytes)

    def __str__(self) -> str:
        return f"a packet of {self.size:,} bytes holds" if self.packet else f"{self.size:,} bytes hold"

    @property
    def option(self) -> str:
        return f"`packet` {self.size}" if self.packet else f"`bytes` {self.size}"


def parts_within(bank: Bank, request: TaskRequest, room: Room) -> tuple[Parts, ...]:
    """The parts that make the most of so many bytes; of several, the images choose.

    Alpha with one coefficient a mask and layer comes first: no other bytes do as much where tasks are related, and few
    are lost where they are not. All that is left goes to a residual of one bit a value: measured, it beats more channel
    groups and more bits a value at every size (docs/trials.md, Byte budget). From few images it is left out: it learns
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
        return (_head_within(bank, request, bare, room),)
    alpha = replace(bare, alpha=True, alpha_dtype="int8")
    vote = (voting(bare.signature),) if request.parts.vote is None and may_vote(bank, request) else ()
    if bank.manifest.masks and task_bytes(bank, request, alpha, room) <= room.size:
        images = count_training(request.reference.data_set, request.fit.holdout, request.fit.shots)
        both = _with_residual(bank, request, alpha, room)
        if both is None or both.values < 8 * LEAST_RESIDUAL or images < FEW_IMAGES:
            return (*vote, alpha)
        return (both,) if images >= SOME_IMAGES else (*vote, alpha, both)
    alone = _with_residual(bank, request, bare, room)
    rest = (*vote, *([] if alone is None else [alone]))
    choices = tuple(one for one in rest if task_bytes(bank, request, one, room) <= room.size)
    if choices:
        return choices
    smallest = [_one_bit(bare, _least_bytes(bank, bare)), *([alpha] if bank.manifest.masks else []), *vote]
    raise _too_small(bank, request, room, min(task_bytes(bank, request, parts, room) for parts in smallest))


def task_bytes(bank: Bank, request: TaskRequest, parts: Parts, room: Room) -> int:
    """Bytes of a task with these parts as a packet; or of its file, at most: accuracies may take fewer characters."""
    if room.packet:
        sent = replace(request, parts=replace(parts, signature=False))
        return packet_bytes(settings_of(bank, sent), blank_parts(bank, sent.parts, request.classes.count))
    asked = replace(request, parts=parts)
    record = task_record(bank, asked, _LONGEST, _LONGEST)
    return len(seal_task(record, blank_parts(bank, parts, request.classes.count), bank.manifest))


def _head_within(bank: Bank, request: TaskRequest, bare: Parts, room: Room) -> Parts:
    """The head, and the residual beside it, that make the most of so many bytes.

    Raises:
        UsageError: not even the smallest head fits.
    """
    classes, most = request.classes.count, bank.directions

    def of(dimensions: int) -> Parts:
        return replace(bare, head=whole_dimensions(classes, dimensions, HEAD_BITS), head_bits=HEAD_BITS)

    def fits(dimensions: int) -> bool:
        return task_bytes(bank, request, of(dimensions), room) <= room.size

    least = next(some for some in range(1, most + 1) if of(some).head)
    if (found := _largest(fits, least, most)) is None:
        raise _too_small(bank, request, room, task_bytes(bank, request, of(least), room))
    if count_training(request.reference.data_set, request.fit.holdout, request.fit.shots) >= FEW_IMAGES:
        beside = replace(of(min(found, DIMENSIONS)), residual_layers=usual_layers(bank.backbone))
        both = _with_residual(bank, request, beside, room)
        if both is not None and both.values >= 8 * LEAST_RESIDUAL:
            return both
    return of(found)


def _too_small(bank: Bank, request: TaskRequest, room: Room, least: int) -> UsageError:
    signed = request.parts.signature and not room.packet
    return UsageError(
        f"{room.option}: the smallest task of {request.reference} in {bank.path} takes {least}"
        + ("; without a signature (`signature=False`) about 67 less" if signed else "")
    )


def _with_residual(bank: Bank, request: TaskRequest, parts: Parts, room: Room) -> Parts | None:
    """These parts with the largest residual of one bit a value that fits; None if none does."""

    def fits(count: int) -> bool:
        return task_bytes(bank, request, _one_bit(parts, count), room) <= room.size

    weights = sum(layer.size for layer in residual_layers(bank.backbone, parts.residual_layers or 0))
    found = _largest(fits, _least_bytes(bank, parts), min(weights // 8, room.size))
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
