"""Every check there is on a pack, fast: a million tasks in less than a minute."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from impress_format.errors import FormatError
from impress_format.parts.class_names import CLASSES, check_number_of_names
from impress_format.parts.numbers import NumbersError
from impress_format.parts.part import BankIdentity, Part
from impress_format.parts.table import (
    PARTS,
    beside,
    check_basis,
    check_present,
    check_settings,
    count_masks,
    is_label,
    settings_of,
)
from impress_format.records.manifest import BankManifest
from impress_format.tasks.pack import DIGEST, OWN, OWN_END, SHARED_HEADER_OF, SHARED_HEADERS, SHARED_HEADERS_END, Pack
from impress_format.tasks.pack_seal import check_seal
from impress_format.tasks.seal import check_text_seal
from impress_format.tasks.text import read_own_classes, write_own, write_shared

_AT_ONCE = 1 << 14
"""Tasks whose numbers are restored together."""


def check_pack(
    pack: Pack,
    manifest: BankManifest,
    identity: BankIdentity,
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
    check_present(pack.path, pack.parts, manifest.format_version)
    for index in range(len(pack.columns[SHARED_HEADERS_END])):
        _check_shared_header(pack, index, manifest, identity)
    digests, before = pack.columns[DIGEST], b""
    for number in range(len(pack)):
        own = pack.own(number)
        name = own[0]
        if not before < name.encode():
            raise FormatError(pack.path, f"task {name} stands after {before.decode()}: names must ascend")
        before = name.encode()
        if pack.record.short:
            _check_own_is_written(pack, number, *own)
        check_text_seal(pack.path, name, pack.content(number))
        _check_names(pack, number, manifest)
        digest = digests[number].tobytes()
        if name not in hidden and seen.setdefault(name, digest) != digest:
            raise FormatError(pack.path, f"task {name} is in another pack too, and not the same")


def _check_names(pack: Pack, number: int, manifest: BankManifest) -> None:
    """Check that a task whose record names its classes names as many as it has, and that no part names them too."""
    if not (named := len(read_own_classes(pack.text(number, OWN, OWN_END)))):
        return
    if CLASSES.name in pack.parts:
        raise FormatError(pack.path, f"task {pack.name(number)} names its classes twice")
    settings = pack.shared_header(int(pack.columns[SHARED_HEADER_OF][number])).settings
    try:
        check_number_of_names(named, settings.classes, beside(manifest, settings, pack.parts))
    except NumbersError as error:
        raise FormatError(pack.path, f"task {pack.name(number)} {error}") from error


def _check_own_is_written(
    pack: Pack, number: int, name: str, task: str, accuracy: float | None, train_accuracy: float | None
) -> None:
    """Check that the text of a task is written as a writer writes it: no own file of the short form has another."""
    own = pack.text(number, OWN, OWN_END)
    if write_own(name, task, accuracy, train_accuracy, read_own_classes(own)) != own:
        raise FormatError(pack.path, f"task {name} has a text that is not as a writer writes it")


def _check_shared_header(pack: Pack, index: int, manifest: BankManifest, identity: BankIdentity) -> None:
    """Check what tasks with this common text have in common, and their numbers."""
    shared_header = pack.shared_header(index)
    shared_bytes = pack.text(index, SHARED_HEADERS, SHARED_HEADERS_END)
    written = write_shared(shared_header.basis, shared_header.fit, shared_header.settings)
    if pack.record.short and written != shared_bytes:
        raise FormatError(pack.path, f"has common text {index} not as a writer writes it")
    check_settings(pack.path, pack.parts, shared_header.settings, manifest)
    around = beside(manifest, shared_header.settings, pack.parts)
    (rows,) = np.nonzero(pack.columns[SHARED_HEADER_OF] == index)

    def check(part: Part[Any, Any]) -> None:
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            try:
                part.check(pack.parts[part.name][some], settings_of(part, shared_header.settings), around, identity)
            except NumbersError as error:
                which = f"{part.name} of task {pack.name(int(rows[start]))} or after it"
                raise FormatError(pack.path, f"{which} {error}") from error

    present = [part for part in PARTS if part.name in pack.parts]
    for part in present:
        if not is_label(part.name):
            check(part)
    if len(rows):
        masks = count_masks(pack.shapes, shared_header.settings, around)
        check_basis(pack.path, shared_header.basis, masks, pack.parts, manifest, identity)
    for part in present:
        if is_label(part.name):
            check(part)
