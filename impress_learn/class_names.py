"""What the classes of a task are called: in its file, in its bank, or by its reference."""

from __future__ import annotations

from impress_format.bank import Bank
from impress_format.errors import DataError, InvalidReference
from impress_format.limits import MAX_CLASS_NAMES
from impress_format.records import TaskRecord
from impress_learn.streams.folder import FOLDER
from impress_learn.streams.reference import Reference, parse_reference


def class_names_to_store(bank: Bank, reference: Reference) -> tuple[str, ...]:
    """What a task's file is to say: names that its folder alone knows. None where the bank knows them, in a bank of
    format version 1, and where they take too many bytes.
    """
    names = reference.data_set.class_names
    if reference.stream is not FOLDER or names is None or names == bank.manifest.class_names:
        return ()
    too_long = sum(len(name.encode()) for name in names) > MAX_CLASS_NAMES
    return () if too_long or bank.manifest.format_version == 1 else names


def class_names_of(bank: Bank, task: str, record: TaskRecord | None) -> tuple[str, ...] | None:
    """What the classes of a task are called; None where only its data can tell, and they are not at hand.

    Args:
        task: its reference.
        record: of its file; None for a mask's own task.
    """
    if record is not None and record.class_names:
        return record.class_names
    if bank.manifest.class_names is not None and (record is None or not record.classes):
        return bank.manifest.class_names
    try:
        return parse_reference(task).data_set.class_names
    except (InvalidReference, DataError):
        return None
