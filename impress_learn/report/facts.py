"""A bank as numbers: all that its page says, read from its files with NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.operations.stats import Storage, measure_storage
from impress_format.records.manifest import BankManifest
from impress_format.tasks.sizes import measure_tasks
from impress_learn.report.masks import MaskFacts, gather_masks
from impress_learn.report.tasks import TaskFacts, gather_tasks


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of a bank.

    Attributes:
        name: of its folder.
        manifest: as it is stored.
        storage: bytes on disk; None where masks are planned and none is trained yet.
        masks, tasks: what these say.
        projection: references of the tasks that heads read features of, the epochs that the network was moved in, and
            how many directions there are; None without a projection.
    """

    name: str
    manifest: BankManifest
    storage: Storage | None
    masks: MaskFacts
    tasks: TaskFacts
    projection: tuple[tuple[str, ...], int, int] | None

    @property
    def stem(self) -> str:
        """The bank's name without its habitual ending."""
        return self.name.removesuffix(".impress")

    @property
    def planned_only(self) -> int:
        """Masks that are still to be trained."""
        return len(self.masks.rows) - len(self.masks.trained)


def gather(bank: Bank) -> Facts:
    """Read a bank.

    Raises:
        FormatError: a file that was read is damaged.
        StorageError: a folder may not be read.
    """
    measured = measure_tasks(bank.tasks)
    try:
        storage = measure_storage(bank, stored=measured)
    except BankMismatch:  # masks are planned, and none is trained
        storage = None
    masks = gather_masks(bank)
    projection = None
    if bank.has_projection:
        record = bank.projection_record
        projection = record.tasks, record.epochs, bank.directions
    return Facts(
        name=_name_of(bank.path),
        manifest=bank.manifest,
        storage=storage,
        masks=masks,
        tasks=gather_tasks(bank, masks.rows, measured),
        projection=projection,
    )


def _name_of(folder: Path) -> str:
    """What a folder is called, by its path as it was given; of `.` and `..` what they stand for."""
    return (folder.resolve() if folder.name in ("", "..") else folder).name
