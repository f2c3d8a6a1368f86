"""A file that a bank keeps once, whatever its masks and tasks are: what one is, and those of one bank.

Each such file is a module of its own, with a row; table.py has the table of the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from impress_format.disk.files import write_atomically
from impress_format.records.manifest import BankManifest

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class BankFile(Generic[R, T]):
    """One of these files: R is its record, T what is in it.

    Attributes:
        name: in the folder of the bank.
        most_bytes: that it may have.
        belongs: its path, manifest -> whether a bank has one, or must have.
        read: its path, manifest -> record and what is in it, checked; raises FormatError.
        seal: manifest, what is to be in it -> its bytes.
        counted_as: what its bytes are part of, where a bank is measured.
        binds: whether what was made for it stays when a plan gives way: masks and tasks may stand on it.
        replaced: whether writing replaces one that is there; else it is kept, since others were made with it.
        size: what is in it -> how many numbers it gives of an image, which parts of tasks are held to.
        reseal: its path, manifest -> its bytes in the manifest's version; None where it is of that version already.
            A file that every version has in one form needs none.
    """

    name: str
    most_bytes: int
    belongs: Callable[[Path, BankManifest], bool]
    read: Callable[[Path, BankManifest], tuple[R, T]]
    seal: Callable[[BankManifest, T], bytes]
    counted_as: Literal["backbone", "recogniser", "projection"]
    binds: bool = False
    replaced: bool = False
    size: Callable[[T], int] = lambda _: 0
    reseal: Callable[[Path, BankManifest], bytes | None] = lambda *_: None


@dataclass(frozen=True)
class Known(Generic[R]):
    """What a bank remembers of such a file: its record, and its size (`BankFile.size`)."""

    record: R
    size: int


@dataclass(frozen=True)
class KeptFiles:
    """These files in one bank's folder. What is known of one is remembered; many threads may use it."""

    folder: Path
    manifest: BankManifest
    _known: dict[str, Known[Any]] = field(default_factory=dict, repr=False, compare=False)

    def path(self, file: BankFile[R, T]) -> Path:
        """Where it is in this bank."""
        return self.folder / file.name

    def has(self, file: BankFile[R, T]) -> bool:
        """Whether this bank has it, or must have.

        Raises:
            StorageError: the folder may not be read.
        """
        return file.belongs(self.path(file), self.manifest)

    def read(self, file: BankFile[R, T]) -> tuple[R, T]:
        """Its record, and what is in it.

        Raises:
            FormatError: missing, damaged, or of another bank.
        """
        return file.read(self.path(file), self.manifest)

    def known(self, file: BankFile[R, T]) -> Known[R]:
        """Its record and its size, read once.

        Raises:
            FormatError: as read.
        """
        if file.name not in self._known:
            record, content = self.read(file)
            self._known[file.name] = Known(record, file.size(content))
        return self._known[file.name]

    def write(self, file: BankFile[R, T], content: T) -> None:
        """Store it; one that is there already is replaced or kept, as its row says.

        Raises:
            FormatError: one is there, is to be kept, and is damaged.
            StorageError: the disk said no.
        """
        sealed = file.seal(self.manifest, content)
        try:
            write_atomically(self.path(file), sealed, replace=file.replaced)
        except FileExistsError:
            self.read(file)

    def reseal(self, file: BankFile[R, T]) -> bool:
        """Put it into the manifest's version; whether it was written.

        Raises:
            FormatError: as read.
            StorageError: the disk said no.
        """
        if (content := file.reseal(self.path(file), self.manifest)) is None:
            return False
        write_atomically(self.path(file), content, replace=True)
        return True
