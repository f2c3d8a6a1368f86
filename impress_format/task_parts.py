"""The parts of a task: what each may be, and what it must have been made with to belong to a bank (docs/format.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from impress_format.codec import BoolArray
from impress_format.errors import FormatError
from impress_format.evidence import check_evidence
from impress_format.head import StoredHead
from impress_format.numbers import FloatArray, NumbersError, NumberType, StoredArray
from impress_format.pixel_signature import check_pixel_signatures
from impress_format.records import (
    SIGNATURE_BYTES,
    BackboneSpec,
    BankManifest,
    ResidualBits,
    TaskRecord,
    alpha_columns,
)

ALPHA, CLASSES, HEAD, MASK, RESIDUAL, SIGNATURE = "alpha", "classes", "head", "mask", "residual", "signature"
PARTS = frozenset({ALPHA, CLASSES, HEAD, MASK, RESIDUAL, SIGNATURE})

OnlyPart = Literal["alpha", "head"]
"""Parts that a task may consist of alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTask:
    """A task as it is read.

    Attributes:
        alpha: float32 (K, columns); K is 0 for a task that weighs no mask.
        alpha_type: what it is stored in; None for a task that weighs no mask.
        residual: float32 (values,), those of all its layers one after the other, or None.
        mask: bool, the last layer's shape, where alpha has no column for that layer (hybrid); or None.
        head: in place of the last layer, over pretrained weights; or None.
        signature: or None.
    """

    record: TaskRecord
    alpha: FloatArray
    alpha_type: NumberType | None
    residual: FloatArray | None
    mask: BoolArray | None
    head: StoredHead | None
    signature: bytes | None

    @property
    def only(self) -> OnlyPart | None:
        """What is all that it has, beside a signature; None if it is more."""
        if self.residual is not None or self.mask is not None or (self.head is not None and self.alpha.size):
            return None
        return "alpha" if self.head is None else "head"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskParts:
    """The parts of a task as they are stored: at least one of alpha, residual and head.

    Attributes:
        alpha: as numbers.store gives it.
        residual: as residual.store_residual gives it.
        mask: as own_mask.store_own_mask gives it.
        head: as head.store_head gives it.
        signature: 64 bytes.
        classes: as class_names.store_class_names gives them, where the record has no room for them.
    """

    alpha: StoredArray | None = None
    residual: npt.NDArray[np.uint8] | None = None
    mask: npt.NDArray[np.uint8] | None = None
    head: npt.NDArray[np.uint8] | None = None
    signature: bytes | None = None
    classes: npt.NDArray[np.uint8] | None = None

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """The tensors of the file."""
        tensors: dict[str, npt.NDArray[np.generic]] = {}
        if self.alpha is not None:
            kept = self.alpha.dtype in (np.float16, np.uint8)
            tensors[ALPHA] = np.ascontiguousarray(self.alpha, dtype=None if kept else np.float32)
        for name, part in (
            (RESIDUAL, self.residual),
            (MASK, self.mask),
            (HEAD, self.head),
            (CLASSES, self.classes),
        ):
            if part is not None:
                tensors[name] = part
        if self.signature is not None:
            tensors[SIGNATURE] = np.frombuffer(self.signature, dtype=np.uint8)
        return tensors


@dataclass(frozen=True, slots=True)
class Ties:
    """What a task must have been made with to belong to a bank.

    Attributes:
        basis_digest: number of masks, and whether the task has a head -> digest of the bank's first masks and, with a
            head, of its projection.
        signature_tag: what its signatures begin with; raises FormatError if it has none.
        by_features: whether they are of projected features (evidence.py), not of a recogniser.
        directions: of its projection; raises FormatError if it has none.
        positions: of its recogniser; raises FormatError if it has none.
    """

    basis_digest: Callable[[int, bool], str]
    signature_tag: Callable[[], bytes]
    by_features: Callable[[], bool]
    directions: Callable[[], int]
    positions: Callable[[], int]


class Said(Protocol):
    """What a task's record says of its parts."""

    @property
    def residual_bits(self) -> ResidualBits: ...

    @property
    def head_bits(self) -> ResidualBits: ...

    @property
    def residual_layers(self) -> int: ...

    @property
    def classes(self) -> int: ...


def check_parts(path: Path, parts: Collection[str], newest: bool = True) -> None:
    """Refuse parts that no task has, or has together. Version 1 knows alpha alone.

    Raises:
        FormatError: there are such.
    """
    if not newest:
        if set(parts) != {ALPHA}:
            raise FormatError(path, f"holds {sorted(parts)}, expected one tensor, alpha")
    elif not PARTS.issuperset(parts) or not {ALPHA, RESIDUAL, HEAD}.intersection(parts):
        raise FormatError(
            path, f"holds {sorted(parts)}, expected alpha, residual or head, perhaps mask, signature and classes"
        )
    elif HEAD in parts and {ALPHA, MASK}.intersection(parts):
        raise FormatError(path, f"holds {sorted(parts)}: beside a head there is no alpha and no mask")


def check_said(path: Path, parts: Collection[str], said: Said, backbone: BackboneSpec) -> None:
    """Refuse parts of which the record says otherwise.

    Raises:
        FormatError: naming the part.
    """
    layers = backbone.masked_layers
    for part, bits in ((RESIDUAL, said.residual_bits), (HEAD, said.head_bits)):
        if (part in parts) != bool(bits):
            raise FormatError(path, f"says that a value of its {part} takes {bits} bits, and has "
                + (f"a {part}" if part in parts else "none"))  # fmt: skip
    some = RESIDUAL in parts and HEAD in parts
    if not (1 <= said.residual_layers < len(layers) if some else said.residual_layers == 0):
        expected = f"1 to {len(layers) - 1:,}" if some else "none but of a residual beside a head"
        raise FormatError(path, f"says that its residual is of the last {said.residual_layers:,} layers, expected "
            + expected)  # fmt: skip
    if HEAD not in parts and said.classes >= max(backbone.classes, 1):
        raise FormatError(
            path, f"has {said.classes:,} classes of its own, expected fewer than the network's {backbone.classes:,} "
            "outputs, or a head to tell them apart"
        )  # fmt: skip


def count_classes(manifest: BankManifest, said: Said) -> int:
    """Classes that a task tells apart: its own number, or that of the backbone."""
    return said.classes or manifest.backbone.classes


def check_class_names(path: Path, named: int, head: bool, said: Said, manifest: BankManifest) -> None:
    """Refuse names of other classes than a task has.

    Args:
        named: how many classes it names.
        head: whether it has one.

    Raises:
        FormatError: too few, or too many. A task without a head that does not say how many it has may name fewer.
    """
    classes = count_classes(manifest, said)
    exact = head or said.classes > 0
    if named and (named != classes if exact else named > classes):
        raise FormatError(path, f"names {named:,} classes, and has {classes:,}")


def check_signatures(path: Path, signatures: npt.NDArray[np.generic], ties: Ties) -> None:
    """Refuse signatures (N, ...) of another form, made otherwise than the bank makes them, or of impossible bytes.

    Raises:
        FormatError: there are such.
    """
    if signatures.dtype != np.uint8 or signatures.shape[1:] != (SIGNATURE_BYTES,):
        raise FormatError(
            path, f"signature is {signatures.dtype} {signatures.shape[1:]}, expected {SIGNATURE_BYTES} bytes"
        )
    tag = np.frombuffer(ties.signature_tag(), dtype=np.uint8)
    by_features = ties.by_features()
    if (signatures[:, : len(tag)] != tag).any():
        by = "projection" if by_features else "recogniser"
        raise FormatError(path, f"has a signature that was not made with this bank's {by}")
    check, size = (check_evidence, ties.directions) if by_features else (check_pixel_signatures, ties.positions)
    try:
        check(signatures.view(np.uint8), size())
    except NumbersError as error:
        raise FormatError(path, f"signature {error}") from error


def check_basis(path: Path, basis: str, masks: int, head: bool, manifest: BankManifest, ties: Ties) -> None:
    """Refuse an alpha that weighs other masks than the bank's first ones, and a head over another projection.

    Args:
        basis: all digits of their digest, or in version 2 its first half.
        masks: that alpha weighs, 0 without.
        head: whether there is one.

    Raises:
        FormatError: it does, or more masks than there are.
    """
    if masks > len(manifest.masks):
        raise FormatError(path, f"alpha weighs {masks} masks, the bank has {len(manifest.masks)}")
    if ties.basis_digest(masks, head)[: len(basis)] != basis:
        raise FormatError(path, "was learned over another basis: it belongs to another bank")


def count_columns(manifest: BankManifest, granularity: int, *, hybrid: bool) -> int:
    """Columns of an alpha of this granularity; of a hybrid task it has none for the last layer."""
    layers = manifest.backbone.masked_layers
    return sum(alpha_columns(layers[:-1] if hybrid else layers, granularity))
