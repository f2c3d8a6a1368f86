"""Every error this project raises on purpose.

    ImpressError
    ├── UsageError              what was asked does not fit; nothing was started      (exit 2)
    │   ├── InvalidReference    unknown stream, key outside its range, malformed slice
    │   ├── BankNotFound        no bank at this path, or something else is there
    │   ├── BankMismatch        the bank is there, but was made with other settings
    │   ├── TaskExists
    │   ├── TaskNotFound
    │   └── AmbiguousTask       a reference that several stored tasks were learned from
    ├── FormatError             bytes that are not what docs/format.md says           (exit 1)
    │   └── UnsupportedVersion  a bank from a newer release
    ├── BackboneMismatch        the rebuilt backbone has another digest               (exit 1)
    ├── ExportFailed            a plain network that answers otherwise than the bank  (exit 1)
    ├── DataError               a data set is missing or unreadable                   (exit 1)
    ├── StorageError            the disk said no: full, read-only, locked             (exit 1)
    ├── ZooError                a zoo cannot be reached, or is not what it says       (exit 1)
    ├── WorkerLost              a process that trained beside others ended by itself  (exit 1)
    ├── ClusterError            a Ray cluster that is not there, or cannot do this    (exit 1)
    ├── OutOfMemory             this machine or its GPU has too little memory         (exit 1)
    └── TrainingDiverged        NaN or infinite loss or scores                        (exit 1)

The command layer catches ImpressError once and prints its text; so a message says what was expected,
what was found and what to do, in one or two lines. A setting is named by its field in backticks (`batch_size`), as a
Python caller writes it, a flag that is to be off as `alpha=False`; the command line puts its own option there
(--batch-size, --no-alpha).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class ImpressError(Exception):
    """Base of all errors of this project."""

    exit_code = 1


class UsageError(ImpressError):
    """What was asked for does not fit; nothing was started."""

    exit_code = 2


class InvalidReference(UsageError):
    """A task reference names an unknown stream, a key outside its range, or is malformed."""


class BankNotFound(UsageError):
    """There is no bank at this path."""


class BankMismatch(UsageError):
    """The bank exists and does not fit the request (settings, input shape, class count)."""


class TaskExists(UsageError):
    """A task of this name is stored already."""


class TaskNotFound(UsageError):
    """No task of this name is stored."""


class AmbiguousTask(UsageError):
    """Several stored tasks were learned from this reference; a name tells them apart."""


class FormatError(ImpressError):
    """A file of a bank is not what docs/format.md says.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = Path(path)
        self.problem = problem


class UnsupportedVersion(FormatError):
    """The bank was written by a newer release."""


class BackboneMismatch(ImpressError):
    """The backbone rebuilt from the bank's seed is not the one the bank was made with."""


class ExportFailed(ImpressError):
    """A plain network cannot be made of a task, or does not answer as the bank does; no file was left."""


class DataError(ImpressError):
    """A data set is missing, unreadable, or cannot be downloaded."""


class StorageError(ImpressError):
    """The file system refused: full, read-only, or locked by another process."""


class ZooError(ImpressError):
    """A zoo cannot be reached, or sends something other than its index says."""


class TrainingDiverged(ImpressError):
    """The loss or the scores became NaN or infinite."""


class OutOfMemory(ImpressError):
    """What was asked for takes more memory than there is."""


class WorkerLost(ImpressError):
    """A process that trained beside others ended by itself."""


class ClusterError(ImpressError):
    """A Ray cluster is not there, lets nobody in, or cannot do what was asked."""


def listed(names: Sequence[str], most: int) -> str:
    """The first names, `most` of them, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"
