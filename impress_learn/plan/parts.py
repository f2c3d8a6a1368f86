"""The parts that a task is to have, and whether a bank's tasks may have them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.head import whole_dimensions
from impress_format.limits import MAX_SIDE
from impress_format.numbers import NumberType
from impress_format.records import (
    BackboneSpec,
    ResidualBits,
)
from impress_format.task_parts import StoredTask
from impress_learn.fits import check_number, require

HEAD_DIMENSIONS = 128
"""Of a head, where nobody asks for a number: of two bits each, five classes take 180 bytes."""
_TAIL = 0.25
"""Of the weights before the classifier, what the layers hold that a residual beside a head is of, where nobody asks. In
more layers it gains more (docs/results.md, Heads), and takes minutes where these take less than one."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts that a task is to have.

    Attributes:
        granularity: of alpha.
        alpha_type: what alpha is stored in; None for a task without alpha.
        residual: number of its values, 0 for none.
        residual_bits: that each of these takes.
        hybrid: whether it has a mask of its own in the last layer, in place of alpha there (ImpressLearn, Sec. 3).
        head: dimensions of a head over pretrained weights, 0 for none.
        head_bits: that each value of the head takes.
        residual_layers: beside a head, the last layers before the classifier that the residual is of.
        signed: whether it has a signature.
    """

    granularity: int = 1
    alpha_type: NumberType | None = "int8"
    residual: int = 0
    residual_bits: ResidualBits = 0
    hybrid: bool = False
    head: int = 0
    head_bits: ResidualBits = 0
    residual_layers: int = 0
    signed: bool = True


def whole_head(parts: Parts, classes: int) -> Parts:
    """The same with a head whose dimensions can be told from its bytes: at most a few fewer."""
    return replace(parts, head=whole_dimensions(classes, parts.head, parts.head_bits)) if parts.head else parts


def usual_head(bank: Bank) -> int:
    """Dimensions of a head where nobody asks for a number; 0 where the bank has no projection.

    Raises:
        FormatError: the projection is damaged.
    """
    return min(HEAD_DIMENSIONS, bank.directions) if bank.has_projection else 0


def check_parts(bank: Bank, parts: Parts) -> Parts:
    """The parts, if a task of this bank may have them.

    Raises:
        UsageError: a number out of range, or no part that makes a task.
        BankMismatch: format version 1 has no residual; there is no mask to weigh.
    """
    layers = bank.backbone.masked_layers
    check_number("granularity", parts.granularity, least=1, most=MAX_SIDE)
    require(parts.head >= 0, f"`head` {parts.head}: expected 0 or more dimensions")
    require(
        parts.alpha_type is not None or parts.residual > 0 or parts.head > 0,
        "a task without coefficients is a residual: give `residual`, its bits in all",
    )
    if parts.head:
        _check_head(bank, parts)
    if parts.alpha_type is not None and not bank.manifest.masks:
        raise BankMismatch(f"{bank.path} has no mask: a task over it is a residual alone (`residual`, `alpha=False`)")
    if parts.hybrid:
        require(parts.alpha_type is not None, "`hybrid` is alpha in all layers but the last: give it with `alpha`")
        require(len(layers) > 1, f"`hybrid`: the network has {len(layers)} layer, expected two or more")
        if bank.manifest.format_version == 1:
            raise BankMismatch(
                f"{bank.path} has format version 1, which has no hybrid: run `impress bank upgrade` first"
            )
    if parts.residual:
        if bank.manifest.format_version == 1:
            raise BankMismatch(f"{bank.path} has format version 1, which has no residual: run `impress bank upgrade`")
        bits = parts.residual * parts.residual_bits
        require(bits % 8 == 0, f"`residual` {bits}: expected whole bytes, a multiple of 8")
        covered = bank.backbone.residual_layers(parts.residual_layers)
        most = sum(layer.size for layer in covered)
        require(
            len(covered) <= parts.residual <= most,
            f"`residual` {bits}: {parts.residual:,} values of {parts.residual_bits} bits, expected {len(covered):,} "
            f"(one a layer) to {most:,} (one a weight)",
        )
    return parts


def _check_head(bank: Bank, parts: Parts) -> None:
    """Refuse a head that this bank has no projection for, or beside parts that it stands in place of.

    Raises:
        UsageError, BankMismatch, FormatError: it is so.
    """
    if not bank.has_projection:
        raise BankMismatch(
            f"{bank.path} has no projection that a head could stand on: create a bank with `weights` that others "
            "trained, of a network whose classifier is linear"
        )
    most = bank.directions
    require(parts.head <= most, f"`head` {parts.head:,}: expected at most {most:,} dimensions, the bank's projection")
    require(
        parts.alpha_type is None and not parts.hybrid,
        "`head` stands beside neither `alpha` nor `hybrid`: it reads features of the network as it is",
    )


def choose_layers(spec: BackboneSpec, asked: int | None) -> int:
    """The last layers before the classifier that a residual is of: as asked, or the fewest that hold a quarter of the
    weights.

    Raises:
        UsageError: there are not so many.
    """
    layers = spec.masked_layers[:-1]
    require(
        asked is None or 1 <= asked <= len(layers),
        f"`residual_layers` {asked}: expected 1 to {len(layers):,}, the layers before the classifier",
    )
    return layers_holding(spec, _TAIL) if asked is None else asked


def layers_holding(spec: BackboneSpec, share: float) -> int:
    """The fewest last layers before the classifier that hold this share of the weights before it."""
    layers = spec.masked_layers[:-1]
    enough, held = share * sum(layer.size for layer in layers), 0
    for count, layer in enumerate(reversed(layers), start=1):
        held += layer.size
        if held >= enough:
            return count
    return len(layers)


def choose_type(bank: Bank, asked: NumberType | None) -> NumberType:
    """The type alpha is stored in. int8 by default: it moves no accuracy (docs/results.md, Types of alpha).

    Raises:
        BankMismatch: a bank of format version 1 has no int8.
    """
    if bank.manifest.format_version == 1:
        if asked == "int8":
            raise BankMismatch(
                f"{bank.path} has format version 1, which stores no int8: run `impress bank upgrade`, or use "
                "`alpha_dtype` float16"
            )
        return asked or "float32"
    return asked or "int8"


def has_same_residual(stored: StoredTask, parts: Parts) -> bool:
    """Whether a stored task has a residual whose values lie as those of these parts do."""
    own = parts_of(stored)
    return own.residual > 0 and (own.residual, own.residual_bits) == (parts.residual, parts.residual_bits)


def parts_of(stored: StoredTask) -> Parts:
    """The parts that a stored task has."""
    return Parts(
        granularity=stored.record.granularity,
        alpha_type=stored.alpha_type,
        residual=0 if stored.residual is None else len(stored.residual),
        residual_bits=stored.record.residual_bits,
        hybrid=stored.mask is not None,
        head=0 if stored.head is None else stored.head.weight.shape[1],
        head_bits=stored.record.head_bits,
        residual_layers=stored.record.residual_layers,
        signed=stored.signature is not None,
    )
