"""A bank's task as a packet, and a task's own file of a packet that came (tasks/packet.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from impress_format.bank import Bank
from impress_format.bank_files.calibration import CALIBRATION
from impress_format.container.header import read_tensors
from impress_format.errors import FormatError, UsageError
from impress_format.parts.class_names import check_number_of_names
from impress_format.parts.numbers import NumbersError
from impress_format.parts.part import Array
from impress_format.parts.signature import SIGNATURE
from impress_format.parts.table import (
    beside,
    check_present,
    count_masks,
    facts_of,
    reads_out,
    tensor_of,
)
from impress_format.tasks.file import read_task_record, seal_task
from impress_format.tasks.packet import packet_body, read_packet, tag_of
from impress_format.tasks.record import TaskRecord
from impress_format.tasks.short import parse_task
from impress_format.versions import require_version

ClassesOf = Callable[[TaskRecord], Sequence[str]]
"""What the classes of a task are called, those without names by their numbers."""


def packets_of_task(bank: Bank, name: str, classes_of: ClassesOf) -> list[bytes]:
    """A stored task as a packet: whole, and then, where it has one, without its signature.

    Raises:
        TaskNotFound: there is no such task.
        FormatError: it is damaged.
        BankMismatch: the bank has format version 1.
    """
    require_version(bank.path, bank.manifest.format_version, "which has no packets")
    bank.read_task(name)  # all of it is checked: what is damaged does not travel
    path, content = bank.task_path(name), bank.task_bytes(name)
    record = read_task_record(path, content, bank.manifest)
    parts = read_tensors(content, parse_task(path, content))
    kinds = [parts, {part: tensor for part, tensor in parts.items() if part != SIGNATURE.name}]
    basis, names = _basis(bank, path, record, parts), classes_of(record)
    bodies = [packet_body(record.settings, one) for one in kinds if one is parts or len(one) < len(parts)]
    return [tag_of(basis, _seen(bank), names, body) + body for body in bodies]


def task_of_packet(
    bank: Bank, path: Path, content: bytes, record: TaskRecord, classes_of: ClassesOf, *, told: bool = False
) -> bytes:
    """The file of the task that a packet holds, whose parts are for `read_task` to check. It keeps the names of its
    classes, wherever it goes from here.

    Args:
        record: what is said of it here: name, reference, names of classes; the rest is the packet's.
        told: whether its reference tells the names, so that the file need not.

    Raises:
        FormatError: it is damaged, of another bank, or of classes that are called otherwise.
        BankMismatch: the bank has format version 1.
    """
    require_version(bank.path, bank.manifest.format_version, "which has no packets")
    packet = read_packet(path, content)
    check_present(path, packet.parts, bank.manifest.format_version)
    shapes = {name: tensor_of(tensor) for name, tensor in packet.parts.items()}
    try:
        facts_of(path, shapes, packet.settings, bank.manifest)  # before a name is made for each class that it claims
        around = beside(bank.manifest, packet.settings, packet.parts)
        check_number_of_names(len(record.class_names), packet.settings.classes, around)
    except NumbersError as error:
        raise FormatError(path, f"is a packet of no task: {error}") from error
    whole = msgspec.structs.replace(record, settings=packet.settings)
    basis = _basis(bank, path, whole, packet.parts)
    whole = msgspec.structs.replace(whole, basis=basis)
    names = classes_of(whole)
    if tag_of(basis, _seen(bank), names, packet.body) != packet.tag:
        raise FormatError(
            path,
            "is a packet that was damaged, belongs to another bank, or is of classes that have other names than "
            f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}: say what they are called (`class_names`), or "
            "which task it is (`reference`)",
        )
    if not told and list(names) != [str(number) for number in range(len(names))]:
        whole = msgspec.structs.replace(whole, class_names=tuple(names))
    try:
        return seal_task(whole, packet.parts, bank.manifest)
    except UsageError as error:
        raise FormatError(path, f"is a packet of no task: {error}") from error


def _seen(bank: Bank) -> str:
    """How the bank's network sees images: what a task's answers depend on beside its basis."""
    seen = msgspec.json.encode(bank.manifest.preprocess).decode()
    return f"{seen}\n{bank.files.known(CALIBRATION).record.digest}" if bank.manifest.calibration else seen


def _basis(bank: Bank, path: Path, record: TaskRecord, parts: Mapping[str, Array]) -> str:
    """The whole digest of what a task of these parts stands on here.

    Raises:
        FormatError: it weighs more masks than there are, or parts are of no task.
    """
    shapes = {name: tensor_of(tensor) for name, tensor in parts.items()}
    try:
        masks = count_masks(shapes, record.settings, beside(bank.manifest, record.settings, parts))
    except NumbersError as error:
        raise FormatError(path, f"has parts of no task: {error}") from error
    if masks > len(bank.manifest.masks):
        raise FormatError(path, f"weighs {masks} masks, the bank has {len(bank.manifest.masks)}")
    return bank.basis_digest(masks, reads_out(parts))
