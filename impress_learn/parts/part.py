"""What a part of a task is here: a row of the table of parts (table.py). Each part is a file beside this one.

A part of the weights says what it begins from, what of it is trained, and what it adds to the effective weights; a
read-out takes the place of the last layer and is learned by itself (tasks/head/learn.py). What is asked for is checked
before torch is needed: these files import it where they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.errors import listed
from impress_format.parts.part import Part
from impress_format.parts.table import Settings
from impress_format.records.masks import MaskPlan
from impress_format.tasks.file import StoredTask
from impress_learn.training.config import TaskTraining, require

if TYPE_CHECKING:
    from torch import Tensor

    from impress_learn.features.projection import Projection
    from impress_learn.masks.basis import Basis
    from impress_learn.network.backbone import Backbone
    from impress_learn.parts.table import Parts

Array = npt.NDArray[np.generic]
Weights = dict[str, "Tensor"]
"""Effective weights, by the names of their tensors."""
_BITS = (1, 2, 4, 8)


@dataclass(frozen=True, eq=False, slots=True)
class Ground:
    """What the parts of a task are laid over.

    Attributes:
        backbone: the network; beside a read-out the one that is adapted to the bank's tasks.
        basis: all masks of the bank.
        masks: as they were planned.
        projection: what a read-out stands on; None beside none.
        settings: of the parts.
        path: of the bank, for people.
        own_last_layer: whether a part has the last layer to itself.
    """

    backbone: Backbone
    basis: Basis
    masks: tuple[MaskPlan, ...]
    projection: Projection | None
    settings: Settings
    path: Path
    own_last_layer: bool

    @property
    def reads_out(self) -> bool:
        """Whether a part reads classes out of features."""
        return self.projection is not None


@dataclass(frozen=True, eq=False, slots=True)
class FewImages:
    """What few images say of where a task could begin.

    Attributes:
        count: how many there are.
        loss: effective weights -> mean cross-entropy on them.
        guess: what that is of guessing.
        stored: names and alpha (K, columns) of tasks of the bank that this one could begin from, as finely grained.
        evidence: (K,), how likely the images are, as log-likelihood, under the task of each mask: labels take no part.
            None where nothing tells.
    """

    count: int
    loss: Callable[[Weights], float]
    guess: float
    stored: Sequence[tuple[str, Tensor]]
    evidence: Tensor | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Beginning:
    """What a part of a task that is to be learned begins from.

    Attributes:
        parts: that the task is to have.
        fit: the seed is that of the task.
        masks: that alpha weighs.
        start: the stored task that this one begins from, or None.
        few: what the images say, where they are few; else None.
    """

    parts: Parts
    fit: TaskTraining
    masks: int
    start: StoredTask | None
    few: FewImages | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Trainable:
    """A part while it is learned.

    Attributes:
        tensors: names of those of the network that it changes.
        parameters: what the optimiser moves.
        add: effective weights without this part -> with it, rounded as it will be stored; differentiable.
        learned: what was learned, on the CPU and not rounded.
        store: its bytes; raises TrainingDiverged where a number is too large for them.
        penalty: what is added to the loss; None for nothing.
        begun_from: what was chosen for it to begin from, for people; None where there was no choice.
    """

    tensors: Collection[str]
    parameters: Sequence[Tensor]
    add: Callable[[Weights], Weights]
    learned: Callable[[], Tensor]
    store: Callable[[], Array]
    penalty: Callable[[], Tensor] | None = None
    begun_from: str | None = None


def check_bits(name: str, bits: int) -> None:
    """Refuse bits that no value takes.

    Args:
        name: the field of `Parts`.

    Raises:
        UsageError: naming the field.
    """
    require(bits in _BITS, f"`{name}` {bits}: expected one of {listed([*map(str, _BITS)], len(_BITS))}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPart:
    """One part.

    Attributes:
        format: how it is stored.
        fields: of `Parts`, those that are this part's.
        asked: whether a task of these parts has it.
        settle: a bank, what is asked for -> the same with everything that is left open filled in; UsageError and
            BankMismatch where the bank's tasks cannot have it so.
        of_stored: these fields, of a stored task.
        settings: what the record says of it; None for a part without settings.
        blank: a bank, the parts, classes -> bytes as they are stored, all of them zero: what it costs.
        words: what it is, for people: parts, masks of the bank.
        add: ground, effective weights without it, what its bytes stand for -> with it. None for a label.
        begin: what of it is trained; None for a read-out and a label.
        for_classes: the same for a task of so many classes, where not every size can be stored.
        begins_from: whether a task of these parts and so many classes can begin from what a stored one has of it.
        check_start: UsageError where a task of these parts cannot begin from a stored one at all.
    """

    format: Part[Any, Any]
    fields: tuple[str, ...]
    asked: Callable[[Parts], bool]
    settle: Callable[[Bank, Parts], Parts]
    of_stored: Callable[[StoredTask], Mapping[str, Any]]
    blank: Callable[[Bank, Parts, int], Array]
    words: Callable[[Parts, int], str]
    settings: Callable[[Parts], msgspec.Struct] | None = None
    add: Callable[[Ground, Weights, Any], Weights] | None = None
    begin: Callable[[Ground, Beginning], Trainable] | None = None
    for_classes: Callable[[Parts, int], Parts] | None = None
    begins_from: Callable[[StoredTask, Parts, int], bool] | None = None
    check_start: Callable[[StoredTask, Parts, int], None] | None = None
