"""The table of the files that a bank keeps once. A new one is a module with its row, and a place here."""

from __future__ import annotations

from typing import Any

from impress_format.bank_files.calibration import CALIBRATION
from impress_format.bank_files.projection import PROJECTION
from impress_format.bank_files.row import BankFile, KeptFiles
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER

BANK_FILES: tuple[BankFile[Any, Any], ...] = (TASK_CLASSIFIER, PROJECTION, CALIBRATION)


def files_of(files: KeptFiles) -> tuple[BankFile[Any, Any], ...]:
    """Those that a bank has, or must have.

    Raises:
        StorageError: its folder may not be read.
    """
    return tuple(one for one in BANK_FILES if files.has(one))
