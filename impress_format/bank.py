"""An opened bank: its masks, its tasks and what it keeps once, read and written (docs/format.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from impress_format.bank_files.folder import MANIFEST, MASKS, find_bank
from impress_format.bank_files.identity import identity_of, signature_kind
from impress_format.bank_files.projection import PROJECTION, ProjectionRecord
from impress_format.bank_files.row import KeptFiles
from impress_format.container.sealed_file import DIGEST_DIGITS
from impress_format.disk.files import list_folder
from impress_format.errors import BankMismatch, TaskNotFound
from impress_format.manifest import read_manifest
from impress_format.masks import mask_file
from impress_format.masks.mask_values import MaskArray
from impress_format.parts.alpha import matrix_of
from impress_format.parts.numbers import FloatArray
from impress_format.parts.part import BankIdentity
from impress_format.records.manifest import BankManifest
from impress_format.records.masks import MaskRecord
from impress_format.records.network import BackboneSpec
from impress_format.records.training import Elsewhere
from impress_format.tasks import file as task_file
from impress_format.tasks.file import StoredTask, TaskSummary
from impress_format.tasks.names import find_task, task_exists
from impress_format.tasks.record import TaskRecord
from impress_format.tasks.store import SUFFIX, TaskStore


@dataclass(frozen=True)
class Bank:
    """An opened bank: its folder and its manifest. Masks and tasks are read from disk when asked for."""

    path: Path
    manifest: BankManifest
    _bits: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def backbone(self) -> BackboneSpec:
        return self.manifest.backbone

    @property
    def manifest_path(self) -> Path:
        return self.path / MANIFEST

    @cached_property
    def files(self) -> KeptFiles:
        """The files that it keeps once: calibration images, task classifier, projection (table.py)."""
        return KeptFiles(self.path, self.manifest)

    @property
    def has_projection(self) -> bool:
        """Whether tasks may read classes out of features: over pretrained weights, with a projection of theirs."""
        return self.files.has(PROJECTION)

    @property
    def projection_record(self) -> ProjectionRecord:
        """What the projection was made of, read once.

        Raises:
            FormatError: it is missing, damaged, or of another bank.
        """
        return self.files.known(PROJECTION).record

    @property
    def directions(self) -> int:
        """Directions of the projection, read once: most features that a task reads.

        Raises:
            FormatError: as projection_record.
        """
        return self.files.known(PROJECTION).size

    @property
    def signature_kind(self) -> Literal["features", "pixels"] | None:
        """What tells images of its tasks apart: features of the network, or its task classifier; None if nothing
        does.
        """
        return signature_kind(self.files)

    @cached_property
    def tasks(self) -> TaskStore:
        """The tasks as they lie on disk, loose and packed."""
        return TaskStore(self.path, self.manifest)

    def mask_path(self, index: int) -> Path:
        return self.path / MASKS / f"{index:05d}{SUFFIX}"

    def task_path(self, name: str) -> Path:
        """The file of a loose task of this name."""
        return self.tasks.loose_path(name)

    def missing_masks(self) -> list[int]:
        """Planned masks that are not trained yet.

        Raises:
            StorageError: the folder may not be read.
        """
        present = set(list_folder(self.path / MASKS))
        return [index for index in range(len(self.manifest.masks)) if self.mask_path(index).name not in present]

    def complete_masks(self) -> int:
        """Number of masks, all of them there.

        Raises:
            BankMismatch: some are still to be trained.
        """
        planned = len(self.manifest.masks)
        if missing := self.missing_masks():
            raise BankMismatch(
                f"{self.path} has {planned - len(missing)} of its {planned} masks: run the `impress bank create` "
                "command that was interrupted again; it resumes and trains the rest"
            )
        return planned

    def basis_digest(self, count: int, projected: bool = False) -> str:
        """Digest of the backbone and the bits of the first `count` masks: all that an alpha over them depends on. Of
        the projection too, for tasks that stand on it.

        Raises:
            FormatError: a mask or the projection is missing or damaged.
        """
        for index in range(count):
            if index not in self._bits:
                self._bits[index] = self.read_mask_record(index).bits
        parts = [self.backbone.digest, *(self._bits[index] for index in range(count))]
        if projected:
            parts.append(self.projection_record.digest)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGEST_DIGITS]

    @property
    def identity(self) -> BankIdentity:
        """What a task must have been made with to belong here."""
        return identity_of(self.files, self.manifest_path, self.basis_digest)

    def task_names(self) -> list[str]:
        """Names of the stored tasks, sorted as people count: task-9 before task-10.

        Raises:
            StorageError: a folder may not be read.
            FormatError: a pack is damaged.
        """
        return self.tasks.names()

    def find_task(self, name_or_reference: str) -> str:
        """The stored name of a task given by name or by reference (`rotated-mnist/30`).

        Raises:
            TaskNotFound: with the names there are.
            AmbiguousTask: several tasks were learned from this reference.
        """
        return find_task(self.tasks, name_or_reference)

    def read_mask(self, index: int) -> tuple[MaskRecord, dict[str, MaskArray]]:
        """One supermask: arrays by layer name, in the shapes of the layers: bool, int8 of a signed mask, float32 of a
        real one.

        Raises:
            FormatError: the file is missing, damaged, or not the mask that was planned.
        """
        return mask_file.read_mask(self.mask_path(index), self.manifest, index)

    def read_mask_record(self, index: int) -> MaskRecord:
        """Only the header of a mask file (its checksum is checked)."""
        return mask_file.read_mask_record(self.mask_path(index), self.manifest, index)

    def read_mask_signature(self, index: int) -> npt.NDArray[np.uint8] | None:
        """The signature of a mask's task, uint8 (64,); None if it has none.

        Raises:
            FormatError: the file is damaged, or its signature was not made as the bank makes them.
        """
        return mask_file.read_mask_signature(self.mask_path(index), self.manifest, index, self.identity)

    def read_task(self, name: str) -> tuple[TaskRecord, FloatArray]:
        """One task's record and alpha, float32 (K, columns) in whichever type it is stored.

        Raises:
            TaskNotFound: there is no such task.
            FormatError: the file is damaged, or belongs to another basis.
        """
        stored = self.read_stored(name)
        return stored.record, matrix_of(stored, stored.record.settings.alpha, self.backbone)

    def read_stored(self, name: str) -> StoredTask:
        """One task with all its parts.

        Raises:
            TaskNotFound, FormatError: as read_task.
        """
        path, content, _ = self._task_there(name)
        return task_file.read_task(path, content, name, self.manifest, self.identity)

    def read_task_record(self, name: str) -> TaskRecord:
        """Only the record of a task (the checksum over all of it is checked)."""
        path, content, _ = self._task_there(name)
        return task_file.read_task_record(path, content, self.manifest)

    def task_bytes(self, name: str) -> bytes:
        """The bytes of a task's own file, also of one in a pack.

        Raises:
            TaskNotFound, FormatError: as read_task.
        """
        return self._task_there(name)[1]

    def summarise_task(self, name: str) -> TaskSummary:
        """What a list of tasks shows of one, from one reading of its file; `read_task` checks all there is to check.

        Raises:
            TaskNotFound: there is no such task.
            FormatError: the file is damaged.
        """
        path, content, size = self._task_there(name)
        return task_file.summarise_task(path, content, self.manifest, size)

    def summarise_tasks(self) -> list[TaskSummary]:
        """What a list shows of every task, in the order of `task_names`.

        Raises:
            StorageError, FormatError: as task_names, and for a damaged task.
        """
        return self.tasks.summaries()

    def write_mask(
        self,
        index: int,
        masks: Mapping[str, MaskArray],
        accuracy: float | None,
        signature: bytes | None = None,
        *,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Store a trained mask; one that is there already is kept (an equal run made it)."""
        path = self.mask_path(index)
        content = mask_file.seal_mask(path, self.manifest, index, masks, accuracy, signature, elsewhere)
        mask_file.place_mask(path, self.manifest, index, content)

    def write_task(
        self, record: TaskRecord, parts: Mapping[str, npt.NDArray[np.generic]], *, replace: bool = False
    ) -> int:
        """Store a task; return the bytes its file takes.

        Args:
            parts: as they are stored, by name (parts.table.stored_parts); an alpha of any other type than float16 and
                uint8 is stored as float32.

        Raises:
            TaskExists: a task of this name is there, and `replace` is false.
            UsageError: a value out of its range, or parts that no task has together.
        """
        content = task_file.seal_task(record, parts, self.manifest)
        try:
            self.tasks.write(record.name, content, replace=replace)
        except FileExistsError as error:
            raise task_exists(self.path, [record.name]) from error
        return len(content)

    def remove_task(self, name_or_reference: str) -> str:
        """Remove a task and return its name.

        Raises:
            TaskNotFound: there is no such task.
        """
        name = self.find_task(name_or_reference)
        self.tasks.remove(name)
        return name

    def _task_there(self, name: str) -> tuple[Path, bytes, int]:
        """The file a task is in, the bytes of its own file and what they take on disk; or TaskNotFound."""
        while (stored := self.tasks.read(name)) is None:
            if self.find_task(name) != name:  # which says what there is, or finds it put there meanwhile
                raise TaskNotFound(f"{self.path} has no task {name!r}")
        return stored


def open_bank(path: Path | str) -> Bank:
    """Open the bank in folder `path`.

    Raises:
        BankNotFound: no folder, or no bank in it.
        StorageError: the folder may not be read.
        UnsupportedVersion: made by a newer release.
        FormatError: the manifest is damaged.
    """
    path = find_bank(path)
    return Bank(path=path, manifest=read_manifest(path / MANIFEST))
