"""What one part of a task is: a row of the table of parts (table.py). Each part is a file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from impress_format.records.network import BackboneSpec

Array = npt.NDArray[np.generic]
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tensor:
    """Type and shape of a part as it is stored, before its bytes are looked at."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BankIdentity:
    """What a task must have been made with to belong to a bank.

    Attributes:
        basis_digest: number of masks, and whether the task stands on the projection -> digest of the bank's first
            masks and, if so, of its projection.
        signature_tag: what its signatures begin with; raises FormatError if it has none.
        by_features: whether they are of projected features (feature_signature.py), not of a task classifier.
        directions: of its projection; raises FormatError if it has none.
        positions: of its task classifier; raises FormatError if it has none.
    """

    basis_digest: Callable[[int, bool], str]
    signature_tag: Callable[[], bytes]
    by_features: Callable[[], bool]
    directions: Callable[[], int]
    positions: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Beside:
    """What a part stands beside: the network of its bank, and what the other parts of its task take for themselves.

    Attributes:
        version: of the bank's format.
        classes: that the task tells apart.
        reads_out: whether a part reads the classes out of features, in place of the last layer.
        own_last_layer: whether a part has the last layer to itself.
    """

    backbone: BackboneSpec
    version: int
    classes: int
    reads_out: bool
    own_last_layer: bool


class HasValues(Protocol):
    """A task that was read."""

    @property
    def values(self) -> Mapping[str, object]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Part(Generic[S, T]):
    """One part: S are its settings in a task's record (None if it has none), T is what its bytes stand for.

    Attributes:
        name: of its tensor.
        letter: that stands for it in a task's file; no other part has it.
        kind: parts of the weights change the effective weights, a read-out takes the place of the last layer, a vote
            asks masks one by one, and a label says something of the task.
        restore: stored bytes, settings, what is beside it, the bank -> what they stand for.
        check: the same for stored parts of one shape (N, ...), without making anything of them.
        facts: tensor (None for a task without this part), settings, what is beside it -> what a list of tasks shows.
        masks: how many masks of the bank it weighs; None for a part that weighs none.
        bits: that each of its values takes, as its settings say, 0 for a task without it; None where they do not say.
        check_settings: settings, what is beside it, whether the part is there.
        as_stored: a tensor in a type that the part may have.
        makes_task: whether it is a task without other parts.
        excludes: names of parts that no task has beside it.
        stands_alone: whether a task has no part beside it but labels.
        takes_last_layer: whether the last layer is its own.
        since: the first format version that knows it.

    All of them raise NumbersError where the bytes, or the settings, are not as docs/format.md says.
    """

    name: str
    letter: str
    kind: Literal["weights", "read-out", "vote", "label"]
    restore: Callable[[Array, S, Beside, BankIdentity], T]
    check: Callable[[Array, S, Beside, BankIdentity], object]
    facts: Callable[[Tensor | None, S, Beside], Mapping[str, int]] | None = None
    masks: Callable[[Tensor, S, Beside], int] | None = None
    bits: Callable[[S], int] | None = None
    check_settings: Callable[[S, Beside, bool], None] | None = None
    as_stored: Callable[[Array], Array] = np.ascontiguousarray
    makes_task: bool = False
    excludes: frozenset[str] = frozenset()
    stands_alone: bool = False
    takes_last_layer: bool = False
    since: int = 2

    def of(self, stored: HasValues) -> T | None:
        """What a task that was read has of this part; None if it has none."""
        return cast("T | None", stored.values.get(self.name))
