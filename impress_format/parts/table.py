"""The table of parts: every part that a task may have, and what is asked of all of them at once.

A new part is a file beside this one, a row of PARTS and, if it has settings, a field of Settings and their places in
the text of a task's record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from impress_format.errors import FormatError, UsageError, listed
from impress_format.parts.alpha import ALPHA, AlphaSettings
from impress_format.parts.class_names import CLASSES, ClassSettings
from impress_format.parts.head import HEAD, HeadSettings
from impress_format.parts.norm import NORM, NormSettings
from impress_format.parts.numbers import NumbersError
from impress_format.parts.own_mask import OWN_MASK
from impress_format.parts.part import Array, BankIdentity, Beside, Part, Tensor
from impress_format.parts.residual import RESIDUAL, ResidualSettings
from impress_format.parts.signature import SIGNATURE, store_signature
from impress_format.parts.vote import VOTE
from impress_format.records.fields import Record
from impress_format.records.manifest import BankManifest

PARTS: tuple[Part[Any, Any], ...] = (ALPHA, RESIDUAL, OWN_MASK, NORM, HEAD, VOTE, CLASSES, SIGNATURE)
BY_NAME: Mapping[str, Part[Any, Any]] = {part.name: part for part in PARTS}
BY_LETTER: Mapping[str, Part[Any, Any]] = {part.letter: part for part in PARTS}


class Settings(Record, frozen=True, omit_defaults=True):
    """What a task's record says of its parts: those that have settings, by name."""

    alpha: AlphaSettings = AlphaSettings()
    residual: ResidualSettings = ResidualSettings()
    head: HeadSettings = HeadSettings()
    classes: ClassSettings = ClassSettings()
    norm: NormSettings = NormSettings()


PLACES: tuple[tuple[str, str], ...] = (
    ("alpha", "granularity"),
    ("residual", "bits"),
    ("head", "bits"),
    ("residual", "layers"),
    ("classes", "count"),
    ("norm", "bits"),
    ("norm", "layers"),
)
"""Part and field, in the order in which the text of a record has them (docs/format.md). New ones come last."""


def settings_of(part: Part[Any, Any], settings: Settings) -> Any:
    """What a record says of one part; None of a part that has no settings."""
    return getattr(settings, part.name, None)


def stored_parts(**parts: Array | bytes | None) -> dict[str, Array]:
    """The parts of a task by their names, as they are stored.

    Args:
        parts: tensors, a signature as 64 bytes; None for none.

    Raises:
        UsageError: no part has this name.
    """
    if unknown := sorted(set(parts) - set(BY_NAME)):
        raise UsageError(f"no part of a task is called {unknown[0]!r}: expected {listed([*BY_NAME], len(BY_NAME))}")
    given = {name: part for name, part in parts.items() if part is not None}
    return {
        name: BY_NAME[name].as_stored(store_signature(part) if isinstance(part, bytes) else part)
        for name, part in given.items()
    }


def count_classes(manifest: BankManifest, settings: Settings) -> int:
    """Classes that a task tells apart: its own number, or that of the backbone."""
    return settings.classes.count or manifest.backbone.classes


def reads_out(present: Collection[str]) -> bool:
    """Whether one of these parts takes the place of the last layer, and stands on the bank's projection."""
    return any(part.kind == "read-out" and part.name in present for part in PARTS)


def only_part(present: Collection[str]) -> str | None:
    """The part that a task consists of, whatever labels it has; None if there are several."""
    found = [name for name in present if not is_label(name)]
    return found[0] if len(found) == 1 else None


def beside(manifest: BankManifest, settings: Settings, present: Collection[str]) -> Beside:
    """What each part of a task of these parts stands beside."""
    return Beside(
        backbone=manifest.backbone,
        version=manifest.format_version,
        classes=count_classes(manifest, settings),
        reads_out=reads_out(present),
        own_last_layer=any(part.takes_last_layer and part.name in present for part in PARTS),
    )


def check_present(path: Path, present: Collection[str], version: int) -> None:
    """Refuse parts that no task has, or has together.

    Args:
        version: of the task's file.

    Raises:
        FormatError: there are such.
    """
    known = [part for part in PARTS if part.since <= version]
    if len(known) == 1:
        if set(present) != {known[0].name}:
            raise FormatError(path, f"holds {sorted(present)}, expected one tensor, {known[0].name}")
        return
    enough = [part.name for part in known if part.makes_task]
    if not {part.name for part in known}.issuperset(present) or not set(enough).intersection(present):
        others = [part.name for part in known if not part.makes_task]
        raise FormatError(
            path,
            f"holds {sorted(present)}, expected {', '.join(enough[:-1])} or {enough[-1]}, perhaps "
            f"{', '.join(others[:-1])} and {others[-1]}",
        )
    for part in known:
        if part.name in present and part.excludes.intersection(present):
            named = " and no ".join(sorted(part.excludes))
            raise FormatError(path, f"holds {sorted(present)}: beside a {part.name} there is no {named}")
        if part.stands_alone and part.name in present and only_part(present) is None:
            raise FormatError(path, f"holds {sorted(present)}: beside a {part.name} there is no other part of a task")


def check_settings(path: Path, present: Collection[str], settings: Settings, manifest: BankManifest) -> None:
    """Refuse parts of which the record says otherwise.

    Raises:
        FormatError: naming the part.
    """
    around = beside(manifest, settings, present)
    for part in PARTS:
        there, own = part.name in present, settings_of(part, settings)
        if part.bits is not None and there != bool(bits := part.bits(own)):
            found = f"a {part.name}" if there else "none"
            raise FormatError(path, f"says that a value of its {part.name} takes {bits} bits, and has {found}")
    for part in PARTS:
        if part.check_settings is not None:
            try:
                part.check_settings(settings_of(part, settings), around, part.name in present)
            except NumbersError as error:
                raise FormatError(path, str(error)) from error


def facts_of(
    path: Path, tensors: Mapping[str, Tensor], settings: Settings, manifest: BankManifest
) -> Mapping[str, int]:
    """What a list of tasks shows of these parts: coefficients, masks, values and dimensions; 0 for none.

    Raises:
        NumbersError: a part is of a type or shape that none has.
        FormatError: there are parts that no task has together, or of which the record says otherwise.
    """
    check_settings(path, tensors, settings, manifest)
    around, facts = beside(manifest, settings, tensors), dict[str, int]()
    for part in PARTS:
        if part.facts is not None:
            facts.update(part.facts(tensors.get(part.name), settings_of(part, settings), around))
    return facts


def count_masks(tensors: Mapping[str, Tensor], settings: Settings, around: Beside) -> int:
    """How many masks of the bank the parts weigh, 0 for none.

    Raises:
        NumbersError: a part is of a type or shape that none has.
    """
    return sum(
        part.masks(tensors[part.name], settings_of(part, settings), around)
        for part in PARTS
        if part.masks is not None and part.name in tensors
    )


def is_label(name: str) -> bool:
    """Whether a part says something of the task and computes nothing."""
    return BY_NAME[name].kind == "label"


def restore_parts(
    path: Path, tensors: Mapping[str, Array], settings: Settings, manifest: BankManifest, identity: BankIdentity
) -> dict[str, object]:
    """What the stored parts of a task stand for, by name.

    Raises:
        FormatError: a part is not as docs/format.md says, or was made otherwise than the bank makes it.
    """
    around, values = beside(manifest, settings, tensors), dict[str, object]()
    for part in PARTS:
        if part.name in tensors:
            try:
                values[part.name] = part.restore(tensors[part.name], settings_of(part, settings), around, identity)
            except NumbersError as error:
                raise FormatError(path, f"{part.name} {error}") from error
    return values


def check_basis(
    path: Path, basis: str, masks: int, present: Collection[str], manifest: BankManifest, identity: BankIdentity
) -> None:
    """Refuse a task that weighs other masks than the bank's first ones, or stands on another projection.

    Args:
        basis: all digits of their digest, or in version 2 its first half.
        masks: that it weighs.
        present: names of its parts.

    Raises:
        FormatError: it does, or more masks than there are.
    """
    if masks > len(manifest.masks):
        raise FormatError(path, f"weighs {masks} masks, the bank has {len(manifest.masks)}")
    if identity.basis_digest(masks, reads_out(present))[: len(basis)] != basis:
        raise FormatError(path, "was learned over another basis: it belongs to another bank")


def tensor_of(array: npt.NDArray[np.generic]) -> Tensor:
    """Type and shape of a tensor that was read."""
    return Tensor(array.dtype, array.shape)
