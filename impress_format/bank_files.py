"""The table of the files that a bank keeps once. A new one is a module with its row, and a place here."""

from __future__ import annotations

from typing import Any

from impress_format.bank_file import BankFile, KeptFiles
from impress_format.calibration_file import CALIBRATION
from impress_format.projection_file import PROJECTION
from impress_format.recogniser_file import RECOGNISER

BANK_FILES: tuple[BankFile[Any, Any], ...] = (RECOGNISER, PROJECTION, CALIBRATION)


def files_of(files: KeptFiles) -> tuple[BankFile[Any, Any], ...]:
    """Those that a bank has, or must have.

    Raises:
        StorageError: its folder may not be read.
    """
    return tuple(one for one in BANK_FILES if files.has(one))
