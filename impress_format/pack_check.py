"""Every check there is on a pack, fast: a million tasks in less than a minute."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from impress_format.class_names import restore_class_names
from impress_format.container import check_text_seal
from impress_format.errors import FormatError
from impress_format.head import check_heads
from impress_format.numbers import NumbersError, restore_all
from impress_format.own_mask import check_own_masks
from impress_format.pack_file import COMMON_END, COMMON_OF, DIGEST, OWN, OWN_END, Pack, check_seal
from impress_format.records import BankManifest
from impress_format.residual import check_residuals
from impress_format.task_parts import (
    ALPHA,
    CLASSES,
    HEAD,
    MASK,
    RESIDUAL,
    SIGNATURE,
    Ties,
    check_basis,
    check_class_names,
    check_parts,
    check_said,
    check_signatures,
    count_classes,
    count_columns,
)
from impress_format.task_text import read_own_classes

_AT_ONCE = 1 << 14
"""Tasks whose numbers are restored together."""


def check_pack(
    pack: Pack,
    manifest: BankManifest,
    ties: Ties,
    *,
    seen: dict[str, bytes],
    hidden: Container[str],
) -> None:
    """Check a pack and all its tasks as `read_task` checks each.

    Args:
        seen: names in other packs, with the digests of their tasks; those of this one are added.
        hidden: names that a loose task or a mark of removal stands before: packs need not agree on them.

    Raises:
        FormatError: at the first that is wrong.
    """
    check_seal(pack)
    check_parts(pack.path, pack.parts)
    if SIGNATURE in pack.parts:
        check_signatures(pack.path, pack.parts[SIGNATURE], ties)
    for index in range(len(pack.columns[COMMON_END])):
        _check_alike(pack, index, manifest, ties)
    digests, before = pack.columns[DIGEST], b""
    for number in range(len(pack)):
        name = pack.name(number)
        if not before < name.encode():
            raise FormatError(pack.path, f"task {name} stands after {before.decode()}: names must ascend")
        before = name.encode()
        check_text_seal(pack.path, name, pack.content(number))
        _check_names(pack, number, manifest)
        digest = digests[number].tobytes()
        if name not in hidden and seen.setdefault(name, digest) != digest:
            raise FormatError(pack.path, f"task {name} is in another pack too, and not the same")


def _check_names(pack: Pack, number: int, manifest: BankManifest) -> None:
    """Check that a task names as many classes as it has, in its record or in a part."""
    text = pack.text(number, OWN, OWN_END)
    named = len(read_own_classes(text))
    if CLASSES in pack.parts:
        if named:
            raise FormatError(pack.path, f"task {pack.name(number)} names its classes twice")
        try:
            named = len(restore_class_names(pack.parts[CLASSES][number]))
        except NumbersError as error:
            raise FormatError(pack.path, f"{CLASSES} of task {pack.name(number)} {error}") from error
    if named:
        alike = pack.alike(int(pack.columns[COMMON_OF][number]))
        check_class_names(pack.path, named, HEAD in pack.parts, alike, manifest)


def _check_alike(pack: Pack, index: int, manifest: BankManifest, ties: Ties) -> None:
    """Check what tasks with this common text have in common, and their numbers."""
    alike = pack.alike(index)
    layers = manifest.backbone.masked_layers
    check_said(pack.path, pack.parts, alike, manifest.backbone)
    columns, masks = count_columns(manifest, alike.granularity, hybrid=MASK in pack.parts), 0
    covered, classes = manifest.backbone.residual_layers(alike.residual_layers), count_classes(manifest, alike)
    (rows,) = np.nonzero(pack.columns[COMMON_OF] == index)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        try:
            if (part := ALPHA) in pack.parts:
                masks = restore_all(pack.parts[ALPHA][some], columns).shape[1]
            if (part := RESIDUAL) in pack.parts:
                check_residuals(pack.parts[RESIDUAL][some], alike.residual_bits, covered)
            if (part := MASK) in pack.parts:
                check_own_masks(pack.parts[MASK][some], layers[-1])
            if (part := HEAD) in pack.parts:
                check_heads(pack.parts[HEAD][some], alike.head_bits, classes, ties.directions())
        except NumbersError as error:
            raise FormatError(pack.path, f"{part} of task {pack.name(int(rows[start]))} or after it {error}") from error
    if len(rows):
        check_basis(pack.path, alike.basis, masks, HEAD in pack.parts, manifest, ties)
