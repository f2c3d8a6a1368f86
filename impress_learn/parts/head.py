"""A head over pretrained weights: what a task reads its classes from, in place of the last layer (docs/method.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.parts.head import HEAD as FORMAT
from impress_format.parts.head import HeadSettings, StoredHead, store_head, whole_dimensions
from impress_format.tasks.file import StoredTask
from impress_learn.parts.part import Array, Ground, TaskPart, Weights, check_bits
from impress_learn.training.config import require

if TYPE_CHECKING:
    from impress_learn.parts.table import Parts

DIMENSIONS = 128
"""Default for `head`: with two bits each, five classes take 180 bytes."""


def usual_head(bank: Bank) -> int:
    """Dimensions of a head where nobody asks for a number; 0 where the bank has no projection.

    Raises:
        FormatError: the projection is damaged.
    """
    return min(DIMENSIONS, bank.directions) if bank.has_projection else 0


def settle_head(bank: Bank, parts: Parts) -> Parts:
    """The parts with the dimensions of the head filled in, 0 for none.

    Raises:
        UsageError, BankMismatch, FormatError: this bank has no projection for it, or it is beside parts that it stands
            in place of.
    """
    head = parts.head
    if head is None:
        head = 0 if parts.alpha or parts.hybrid or parts.alpha_dtype else usual_head(bank)
    require(head >= 0, f"`head` {head}: expected 0 or more dimensions")
    if not head:
        return replace(parts, head=0, head_bits=2)
    if not bank.has_projection:
        raise BankMismatch(
            f"{bank.path} has no projection that a head could stand on: create a bank with `weights` that others "
            "trained, of a network whose classifier is linear"
        )
    most = bank.directions
    require(head <= most, f"`head` {head:,}: expected at most {most:,} dimensions, the bank's projection")
    require(
        not (parts.alpha or parts.hybrid),
        "`head` stands beside neither `alpha` nor `hybrid`: it reads features of the network as it is",
    )
    return replace(parts, head=head)


def _settle(bank: Bank, parts: Parts) -> Parts:
    check_bits("head_bits", parts.head_bits)
    return settle_head(bank, parts)


def _add(ground: Ground, effective: Weights, head: StoredHead) -> Weights:
    import torch

    from impress_learn.features.features import require_classifier

    assert ground.projection is not None
    device, name = ground.basis.device, require_classifier(ground.backbone)
    weight, bias = (torch.from_numpy(values).to(device) for values in (head.weight, head.bias))
    weight, bias = ground.projection.classifier(weight, bias)
    return {**effective, f"{name}.weight": weight, f"{name}.bias": bias}


def _of_stored(stored: StoredTask) -> Mapping[str, Any]:
    if (head := FORMAT.of(stored)) is None:
        return {"head": 0}
    return {"head": head.weight.shape[1], "head_bits": stored.record.settings.head.bits}


def _blank(_: Bank, parts: Parts, classes: int) -> Array:
    rows = np.zeros(classes, dtype=np.float16)
    return store_head(np.zeros((classes, parts.head or 0), dtype=np.uint8), rows, rows, parts.head_bits)


def _for_classes(parts: Parts, classes: int) -> Parts:
    """The same with a head whose dimensions can be told from its bytes: at most a few fewer."""
    return replace(parts, head=whole_dimensions(classes, parts.head or 0, parts.head_bits)) if parts.head else parts


def _begins_from(stored: StoredTask, parts: Parts, classes: int) -> bool:
    head = FORMAT.of(stored)
    return head is not None and head.weight.shape == (classes, parts.head)


def _check_start(start: StoredTask, parts: Parts, classes: int) -> None:
    require(
        not parts.head or _begins_from(start, parts, classes),
        f"`warm_start` {start.record.name} has no head of {parts.head:,} dimensions for {classes:,} classes, as this "
        "task has",
    )


HEAD = TaskPart(
    format=FORMAT,
    fields=("head", "head_bits"),
    asked=lambda parts: bool(parts.head),
    settle=_settle,
    of_stored=_of_stored,
    blank=_blank,
    words=lambda parts, _: f"a head of {parts.head:,} dimensions",
    settings=lambda parts: HeadSettings(bits=parts.head_bits if parts.head else 0),
    add=_add,
    for_classes=_for_classes,
    begins_from=_begins_from,
    check_start=_check_start,
)
