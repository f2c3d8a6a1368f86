"""The files that a bank keeps once, whatever its masks and tasks are: one table for all that goes through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from impress_format.bank import CALIBRATION, PROJECTION, RECOGNISER, Bank
from impress_format.calibration_file import read_calibration
from impress_format.limits import MAX_CALIBRATION_BYTES, MAX_PROJECTION_BYTES, MAX_RECOGNISER_BYTES
from impress_format.projection_file import read_projection
from impress_format.recogniser_file import read_recogniser
from impress_format.records.manifest import BankManifest


@dataclass(frozen=True, kw_only=True)
class BankFile:
    """One of these files.

    Attributes:
        name: in the folder of the bank.
        most_bytes: that it may have.
        belongs: whether a bank has one, or must have.
        read: path, manifest -> what is in it, checked; raises FormatError.
        counted_as: what its bytes are part of, where a bank is measured.
        binds: whether what was made for it stays when a plan gives way: masks and tasks may stand on it.
    """

    name: str
    most_bytes: int
    belongs: Callable[[Bank], bool]
    read: Callable[[Path, BankManifest], object]
    counted_as: Literal["backbone", "recogniser", "projection"]
    binds: bool

    def path(self, bank: Bank) -> Path:
        """Where it is in this bank."""
        return bank.path / self.name


BANK_FILES = (
    BankFile(
        name=RECOGNISER,
        most_bytes=MAX_RECOGNISER_BYTES,
        belongs=lambda bank: bank.manifest.recogniser,
        read=read_recogniser,
        counted_as="recogniser",
        binds=False,
    ),
    BankFile(
        name=PROJECTION,
        most_bytes=MAX_PROJECTION_BYTES,
        belongs=lambda bank: bank.has_projection,
        read=read_projection,
        counted_as="projection",
        binds=True,
    ),
    BankFile(
        name=CALIBRATION,
        most_bytes=MAX_CALIBRATION_BYTES,
        belongs=lambda bank: bank.manifest.calibration,
        read=read_calibration,
        counted_as="backbone",
        binds=False,
    ),
)


def files_of(bank: Bank) -> tuple[BankFile, ...]:
    """Those that a bank has, or must have."""
    return tuple(one for one in BANK_FILES if one.belongs(bank))
