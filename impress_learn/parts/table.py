"""The table of parts: what a task may be asked to have, and what is done with all parts at once.

A new part is a file beside this one, a row of `all_parts`, and what can be asked of it, a field of `Parts`. Neither
NumPy nor torch is imported before a part is looked at: the command line makes its options of `Parts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Literal

from impress_learn.training.config import require

if TYPE_CHECKING:
    from torch import Tensor

    from impress_format.bank import Bank
    from impress_format.parts.table import Settings
    from impress_format.tasks.file import StoredTask
    from impress_learn.parts.part import Array, Ground, TaskPart, Weights

Bits = Literal[1, 2, 4, 8]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts that a task is to have; what is left open depends on the bank (`settle`).

    Attributes:
        granularity: groups of output channels in each layer that have coefficients of their own; 1 is the paper.
        alpha_dtype: what they are stored in; None for int8, or float32 in a bank of format version 1.
        alpha: whether the task weighs the bank's masks; None: unless it has a head.
        residual: bits, in all, of values that all weights share (method.md), 0 for none.
        residual_bits: of these for each value.
        residual_layers: beside a head, the last layers before the classifier that the residual is of; None for as many
            as hold 92 % of the weights.
        head: dimensions of a head over pretrained weights, in place of coefficients; None for 128 where the bank has
            such weights and `alpha` is not asked for.
        head_bits: of a value of the head.
        hybrid: a mask of its own in the last layer, in place of coefficients there (the paper).
        norm: bits a value of what scale and shift of the network's norm layers are moved by, 4 or 8; 0 for none.
        norm_layers: the last norm layers that this is of; None for all, or beside a head for those behind the first
            layer that a residual would be of.
        vote: a share for each mask, a byte each: those with one answer, and the answers are averaged, in place of
            coefficients. None: from few images, where that promises more.
        signature: also store what images of the task are recognised by; banks that nothing was made for it have none.
        bytes: of the file: the best task that it holds, everything included. What it is made of is chosen then: of the
            rest only `alpha`, whether there is a head, and `signature` may be said. None to choose it oneself.
        packet: likewise, of the task as a packet, which has no names and no record; a signature is not counted.

    Examples:
        >>> Parts(granularity=4, residual=4096).values
        4096
    """

    granularity: int = field(
        default=1,
        metadata={
            "help": "Groups of output channels in each layer with coefficients of their own: the dial between bytes "
            "and accuracy. 1 is the paper."
        },
    )
    alpha_dtype: Literal["float32", "float16", "int8"] | None = field(
        default=None,
        metadata={
            "help": "How coefficients are stored: in 4, 2 or 1 bytes. Default: int8 (float32 in banks of version 1)."
        },
    )
    alpha: bool | None = field(
        default=None,
        metadata={
            "help": "Weigh the bank's masks; without, a task is its residual alone. Default: unless it has a head."
        },
    )
    residual: int = field(
        default=0,
        metadata={
            "metavar": "BITS",
            "help": "Bits, in all, of values that all weights share, each weight's chosen by a hash: for tasks unlike "
            "the basis, or the last points of accuracy. 4,096 are 512 bytes.",
        },
    )
    residual_bits: Bits = field(default=1, metadata={"help": "Of these for each value."})
    residual_layers: int | None = field(
        default=None,
        metadata={
            "metavar": "N",
            "help": "Beside a head, the last layers before the classifier that the residual is of. Default: as many as "
            "hold 92 % of the weights; fewer gain less, and take less time.",
        },
    )
    head: int | None = field(
        default=None,
        metadata={
            "metavar": "DIMENSIONS",
            "help": "Over weights that others trained: a classifier of so many numbers a class, in the bank's "
            "projection of features. Default there: 128. 0 for none.",
        },
    )
    head_bits: Bits = field(default=2, metadata={"help": "Of a value of the head."})
    hybrid: bool = field(
        default=False,
        metadata={"help": "A mask of its own in the last layer, in place of coefficients there (the paper)."},
    )
    norm: Literal[0, 4, 8] = field(
        default=0,
        metadata={
            "help": "Move scale and shift of the network's norm layers, too, in 4 or 8 bits a value. 0 for none.",
        },
    )
    norm_layers: int | None = field(
        default=None,
        metadata={
            "metavar": "N",
            "help": "The last norm layers that this is of. Default: all; beside a head those behind the first layer "
            "that a residual would be of.",
        },
    )
    vote: bool | None = field(
        default=None,
        metadata={
            "help": "Let masks vote, in place of coefficients: nothing is trained, and an image takes a pass for each "
            "with a share, two to five. Default: from fewer than 1,000 images, where it promises more."
        },
    )
    signature: bool = field(
        default=True,
        metadata={
            "help": "Store 64 bytes, too, that images of the task are recognised by, where `impress infer` or `impress "
            "eval` is not told the task."
        },
    )
    bytes: int | None = field(
        default=None,
        metadata={
            "metavar": "N",
            "help": "The best task in a file of N bytes, everything included: chooses the parts. In a pack it takes "
            "some 100 fewer.",
        },
    )
    packet: int | None = field(
        default=None,
        metadata={
            "metavar": "N",
            "help": "The best task in a packet of N bytes, as `impress task export` writes them: LoRaWAN carries 51 to "
            "222, an SMS 140, BLE 244. A signature is not counted.",
        },
    )

    @property
    def reads_out(self) -> bool:
        """Whether the task reads its classes out of features."""
        return bool(self.head)

    @property
    def changes_features(self) -> bool:
        """Whether, beside a head, a part changes the network that features come from."""
        return self.residual > 0 or self.norm > 0

    @property
    def values(self) -> int:
        """Values of the residual."""
        return self.residual // self.residual_bits


@cache
def all_parts() -> tuple[TaskPart, ...]:
    """Every part, in the order in which they are laid over the network."""
    from impress_learn.parts.alpha import ALPHA
    from impress_learn.parts.head import HEAD
    from impress_learn.parts.norm import NORM
    from impress_learn.parts.own_mask import OWN_MASK
    from impress_learn.parts.residual import RESIDUAL
    from impress_learn.parts.signature import SIGNATURE
    from impress_learn.parts.vote import VOTE

    return VOTE, HEAD, ALPHA, OWN_MASK, RESIDUAL, NORM, SIGNATURE


def settle(bank: Bank, asked: Parts) -> Parts:
    """The parts with everything filled in that is left open, if a task of this bank may have them.

    Where a number of bytes is to choose them, only whether there is a head, and a signature.

    Raises:
        UsageError: a number out of range, no part that makes a task, or one beside a number of bytes.
        BankMismatch: the bank has nothing that a part stands on.
        FormatError: the bank's projection is damaged.
    """
    require(asked.bytes is None or asked.packet is None, "`bytes` and `packet` are two sizes of a task: give one")
    if asked.bytes is not None or asked.packet is not None:
        size = "bytes" if asked.packet is None else "packet"
        return _settle_family(bank, replace(asked, bytes=None, packet=None), size)
    for part in all_parts():
        asked = part.settle(bank, asked)
    return asked


def _settle_family(bank: Bank, asked: Parts, size: str) -> Parts:
    """Only whether the task has a head, and a signature: what is asked for beside a number of bytes.

    Raises:
        UsageError: something else is asked for.
    """
    chosen = Parts(
        alpha=asked.alpha,
        head=None if asked.head is None else 0,
        signature=asked.signature,
        residual_bits=asked.residual_bits,
        head_bits=asked.head_bits,
        vote=False if asked.vote is False else None,
    )
    require(
        asked == chosen and asked.alpha is not False,
        f"`{size}` chooses the parts: leave out `granularity`, `residual`, `hybrid`, `vote` and the like",
    )
    from impress_learn.parts.head import settle_head
    from impress_learn.parts.signature import settle_signature

    return settle_signature(bank, settle_head(bank, asked))


def parts_of(stored: StoredTask) -> Parts:
    """The parts that a stored task has."""
    fields = {name: value for part in all_parts() for name, value in part.of_stored(stored).items()}
    return Parts(**fields)


def for_classes(parts: Parts, classes: int) -> Parts:
    """The parts for a task of so many classes: not every size can be stored."""
    for part in all_parts():
        parts = parts if part.for_classes is None else part.for_classes(parts, classes)
    return parts


def names_of(parts: Parts) -> list[str]:
    """Names of the parts that a task is to have."""
    return [part.format.name for part in all_parts() if part.asked(parts)]


def settings_of(parts: Parts, classes: int) -> Settings:
    """What the record of a task with these parts says of them.

    Args:
        classes: as the record has them, 0 for as many as the backbone has outputs.
    """
    from impress_format.parts.class_names import ClassSettings
    from impress_format.parts.table import Settings

    said = {part.format.name: part.settings(parts) for part in all_parts() if part.settings is not None}
    return Settings(**said, classes=ClassSettings(count=classes))  # type: ignore[arg-type]


def blank_parts(bank: Bank, parts: Parts, classes: int) -> dict[str, Array]:
    """The parts by name as they would be stored, their bytes zero."""
    return {part.format.name: part.blank(bank, parts, classes) for part in all_parts() if part.asked(parts)}


def in_words(parts: Parts, masks: int) -> str:
    """What a task is made of."""
    return " and ".join(part.words(parts, masks) for part in all_parts() if part.asked(parts))


def check_start(start: StoredTask, parts: Parts, classes: int) -> None:
    """Refuse to begin a task from a stored one that has none of its parts, or cannot be written as they are.

    Raises:
        UsageError: naming the part.
    """
    for part in all_parts():
        if part.check_start is not None:
            part.check_start(start, parts, classes)
    able = any(
        part.begins_from(start, parts, classes)
        for part in all_parts()
        if part.begins_from is not None and part.asked(parts)
    )
    require(able, f"`warm_start` {start.record.name}: it has no part that this task could begin from")


def lay(ground: Ground, values: Mapping[str, object], weights: Weights) -> Weights:
    """The effective weights under parts of a stored task.

    Args:
        values: what its parts stand for, by name.
        weights: those without any.
    """
    for part in all_parts():
        if part.add is not None and part.format.name in values:
            weights = part.add(ground, weights, values[part.format.name])
    return weights


def nothing(weights: Mapping[str, Tensor]) -> Weights:
    """The effective weights of a task of no parts: 0 everywhere, in no memory."""
    return {name: weight.new_zeros(()).expand(weight.shape) for name, weight in weights.items()}
