"""Tasks as packets, for links of a few dozen bytes, and the import of packets and of tasks' own files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from impress_format.bank import Bank, open_bank
from impress_format.disk.files import read_limited
from impress_format.errors import FormatError, UsageError, listed
from impress_format.limits import MAX_STORED_NAMES
from impress_format.operations import exchange
from impress_format.operations.packets import packets_of_task, task_of_packet
from impress_format.parts.class_names import unstorable
from impress_format.parts.signature import SIGNATURE
from impress_format.tasks.file import TaskSummary, check_task_name
from impress_format.tasks.packet import is_packet, read_packet
from impress_format.tasks.record import TaskRecord
from impress_learn.progress import SILENT, Progress
from impress_learn.streams.classes import stored_classes
from impress_learn.streams.dataset import DATASET
from impress_learn.streams.reference import parse_reference
from impress_learn.training.config import require

_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class SentPacket:
    """What was written.

    Attributes:
        task: reference of the task, which the packet does not hold.
        name: of the task, likewise.
        bytes: of the packet.
        parts: names of the parts in it.
        signature: whether the task has a signature.
        signed: whether it is in the packet.
    """

    task: str
    name: str
    bytes: int
    parts: tuple[str, ...]
    signature: bool
    signed: bool


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is said of packets where they arrive.

    Attributes:
        reference: what they were learned from, STREAM/KEY; None where that does not matter.
        class_names: of their classes in the order of the outputs; none for those that the reference or the bank tells.
    """

    reference: str | None = None
    class_names: tuple[str, ...] = ()


def export_packet(path: Path | str, task: str, file: Path, size: int) -> SentPacket:
    """Write a task as a packet: its parts and a tag, no names and no record (docs/format.md, Packets).

    Its signature, if it has one, is in the packet where there is room for it.

    Args:
        path: the bank's folder.
        task: the stored task, by name or reference.
        file: what to write.
        size: bytes that the link carries.

    Raises:
        TaskNotFound, AmbiguousTask: there is no such task, or several.
        UsageError: the task takes more bytes.
        StorageError: there is another file at `file` already, or it cannot be written.
        FormatError, BankMismatch.
    """
    bank = open_bank(path)
    name = bank.find_task(task)
    packets = packets_of_task(bank, name, lambda record: _names(bank, record))
    fitting = next((packet for packet in packets if len(packet) <= size), None)
    if fitting is None:
        least = min(map(len, packets))
        raise UsageError(
            f"`packet` {size}: {name} takes {least:,} bytes as a packet; if any parts fit, to add it again with "
            f"`packet` {size} chooses them"
        )
    exchange.write_exported(file, fitting)
    parts = tuple(read_packet(file, fitting).parts)
    return SentPacket(
        task=bank.read_task_record(name).task,
        name=name,
        bytes=len(fitting),
        parts=parts,
        signature=len(packets) > 1,
        signed=SIGNATURE.name in parts,
    )


def import_tasks(
    path: Path | str,
    files: Sequence[Path],
    *,
    name: str | None = None,
    told: Told = Told(),
    progress: Progress = SILENT,
) -> list[TaskSummary]:
    """Store tasks from files, or packets. All are checked before the first is stored; one that is there stays.

    Args:
        path: the bank's folder.
        files: that `impress task export` wrote.
        name: what a single task is to be called; default the name it has, or, of a packet, what its reference makes, or
            the name of its file.
        told: what is said of packets. A task's own file says it itself, and is refused beside it.
        progress: is told what to know of them.

    Raises:
        UsageError: no task may have this name, or it is one name for several files; something is told of no packet; a
            name that no class has.
        InvalidReference: the reference names no task.
        TaskExists: another task has the name of one, in the bank or among the files.
        FormatError: a file is damaged, no task, of another bank, or of classes with other names.
        BankMismatch: a packet, and the bank has format version 1.
        StorageError: the disk said no.
    """
    bank = open_bank(path)
    asked = None if told.reference is None else parse_reference(told.reference)
    reference, usual = (None, None) if asked is None else (str(asked), asked.default_name)
    wrong = unstorable(told.class_names)
    require(wrong is None, f"`class_names` {wrong!r}: no class may be called so")

    def opened(file: Path, content: bytes) -> bytes:
        if not is_packet(content):
            require(told == Told(), f"{file} is no packet: it says itself what `reference` and `class_names` are")
            return content
        own_name = check_task_name(name or usual or file.stem)
        record = TaskRecord(
            name=own_name,
            task=reference or f"{DATASET.name}:{own_name}",
            basis="0" * 32,
            accuracy=None,
            train_accuracy=None,
            fit=None,
            class_names=told.class_names,
        )
        known = asked is not None and not told.class_names and not asked.stream.names_by_data
        return task_of_packet(bank, file, content, record, lambda whole: _names(bank, whole), told=known)

    stored = exchange.import_tasks(bank, files, name, opened=opened)
    unsigned = [one.name for one in stored if SIGNATURE.of(bank.read_stored(one.name)) is None]
    if unsigned and bank.signature_kind is not None:
        progress.remark(
            f"{listed(unsigned, _MOST_NAMED)}: no signature came along. As long as a task without one is here, tasks "
            "of images are found by entropy, which is worse and calls no image unknown"
        )
    return stored


def names_in(text: str) -> tuple[str, ...]:
    """Names of classes as they are given on the command line: with commas between them, or a file with a name a line.

    Raises:
        UsageError: fewer than two, or an empty one.
        FormatError: the file is no UTF-8, or too large.
    """
    file = Path(text).expanduser()
    if "," in text or not file.is_file():
        names = text.split(",")
    else:
        try:
            names = read_limited(file, MAX_STORED_NAMES).decode().splitlines()
        except UnicodeDecodeError as error:
            raise FormatError(file, f"is no text of names ({error})") from error
    names = [name.strip() for name in names]
    require(len(names) > 1 and all(names), f"`class_names` {text}: expected names with commas between them, or a file")
    return tuple(names)


def _names(bank: Bank, record: TaskRecord) -> tuple[str, ...]:
    """What the classes of a task are called, those without names by their numbers."""
    classes = stored_classes(bank, record.task, record)
    return tuple(map(classes.label, range(classes.count)))
