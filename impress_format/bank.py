"""A bank on disk: open, create, add masks and tasks, remove (docs/format.md).

    NAME.impress/
      bank.json                    the manifest: backbone, and the masks the bank has or will have
      masks/00000.safetensors ...  one file a mask; a finished file is its result
      tasks/NAME.safetensors ...   one file a task
      packs/DIGEST.safetensors ... many tasks in one file
      calibration.safetensors      images for norm statistics; only for networks with BatchNorm
      recogniser.safetensors       what signatures of tasks are made with
      projection.safetensors       what heads of tasks stand on; only for pretrained weights

The manifest names every mask before it is trained; a mask that is planned and has no file is still to be
trained. So a killed run is resumed where it stopped, and no file is ever written twice.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from impress_format import calibration_file, mask_file, projection_file, recogniser_file, task_file
from impress_format.calibration_file import CalibrationRecord
from impress_format.container import DIGEST_DIGITS
from impress_format.errors import (
    AmbiguousTask,
    BankMismatch,
    BankNotFound,
    FormatError,
    TaskExists,
    TaskNotFound,
)
from impress_format.files import (
    check_folder,
    is_there,
    list_folder,
    make_folder,
    unreadable,
    write_atomically,
)
from impress_format.manifest import read_manifest
from impress_format.mask_values import MaskArray
from impress_format.parts.alpha import coefficients_of, count_columns
from impress_format.parts.numbers import FloatArray
from impress_format.parts.part import BankIdentity
from impress_format.projection_file import ProjectionRecord, StoredProjection
from impress_format.recogniser_file import RecogniserRecord, StoredRecogniser
from impress_format.records.fields import is_task_name
from impress_format.records.manifest import BankManifest
from impress_format.records.masks import MaskRecord
from impress_format.records.network import BackboneSpec
from impress_format.task_file import StoredTask, TaskOutline
from impress_format.task_record import TaskRecord
from impress_format.task_store import PACKS, SUFFIX, TASKS, TaskStore

MANIFEST = "bank.json"
CALIBRATION = "calibration.safetensors"
RECOGNISER = "recogniser.safetensors"
PROJECTION = "projection.safetensors"
MASKS = "masks"


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

    @property
    def calibration_path(self) -> Path:
        return self.path / CALIBRATION

    @property
    def recogniser_path(self) -> Path:
        return self.path / RECOGNISER

    @property
    def projection_path(self) -> Path:
        return self.path / PROJECTION

    @property
    def has_projection(self) -> bool:
        """Whether tasks may have heads: over pretrained weights, with what heads read features by."""
        return self.backbone.pretrained is not None and is_there(self.projection_path)

    @property
    def signs_by(self) -> Literal["features", "pixels"] | None:
        """What tells images of its tasks apart: features that heads read, or its recogniser; None if nothing does."""
        if self.manifest.recogniser:
            return "pixels"
        return "features" if self.has_projection else None

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
        there = set(list_folder(self.path / MASKS))
        return [index for index in range(len(self.manifest.masks)) if self.mask_path(index).name not in there]

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

    @cached_property
    def signature_tag(self) -> bytes:
        """What signatures made in this bank begin with.

        Raises:
            FormatError: nothing signs its tasks, or what does is damaged.
        """
        if self.signs_by is None:
            raise FormatError(self.manifest_path, "says that there is no recogniser")
        return self.projection_record.tag if self.signs_by == "features" else self._recogniser[0].tag

    @cached_property
    def _recogniser(self) -> tuple[RecogniserRecord, int]:
        record, stored = self.read_recogniser()
        return record, stored.positions

    @cached_property
    def _projection(self) -> tuple[ProjectionRecord, int]:
        record, stored = self.read_projection()
        return record, stored.dimensions

    @property
    def projection_record(self) -> ProjectionRecord:
        """What the projection was made of, read once.

        Raises:
            FormatError: as read_projection.
        """
        return self._projection[0]

    @property
    def directions(self) -> int:
        """Directions of the projection, read once: most dimensions of a head.

        Raises:
            FormatError: as read_projection.
        """
        return self._projection[1]

    @property
    def identity(self) -> BankIdentity:
        """What a task must have been made with to belong here."""
        return BankIdentity(
            self.basis_digest,
            lambda: self.signature_tag,
            lambda: self.signs_by == "features",
            lambda: self.directions,
            lambda: self._recogniser[1],
        )

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
        if is_task_name(name_or_reference) and self.tasks.has(name_or_reference):
            return name_or_reference
        found = self.tasks.learned_from(name_or_reference)
        if len(found) > 1:
            raise AmbiguousTask(
                f"{self.path} has {len(found)} tasks of {name_or_reference} ({_listed(found)}): give the name of one"
            )
        if found:
            return found[0]
        names = self.task_names()
        raise TaskNotFound(f"{self.path} has no task {name_or_reference!r}: " + (f"it has {_listed(names)}" if names
            else "it has none yet; add one with `impress task add`"))  # fmt: skip

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

    def read_task(self, name: str) -> tuple[TaskRecord, FloatArray]:
        """One task's record and alpha, float32 (K, columns) in whichever type it is stored.

        Raises:
            TaskNotFound: there is no such task.
            FormatError: the file is damaged, or belongs to another basis.
        """
        stored = self.read_stored(name)
        if (alpha := coefficients_of(stored)) is None:
            granularity = stored.record.settings.alpha.granularity
            alpha = np.zeros((0, count_columns(self.backbone, granularity, but_last=False)), dtype=np.float32)
        return stored.record, alpha

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

    def outline_task(self, name: str) -> TaskOutline:
        """What a list of tasks shows of one, from one reading of its file; `read_task` checks all there is to check.

        Raises:
            TaskNotFound: there is no such task.
            FormatError: the file is damaged.
        """
        path, content, size = self._task_there(name)
        return task_file.outline_task(path, content, self.manifest, size)

    def outline_tasks(self) -> list[TaskOutline]:
        """What a list shows of every task, in the order of `task_names`.

        Raises:
            StorageError, FormatError: as task_names, and for a damaged task.
        """
        return self.tasks.outlines()

    def write_mask(
        self, index: int, masks: Mapping[str, MaskArray], accuracy: float | None, signature: bytes | None = None
    ) -> None:
        """Store a trained mask; one that is there already is kept (an equal run made it)."""
        path = self.mask_path(index)
        content = mask_file.seal_mask(path, self.manifest, index, masks, accuracy, signature)
        make_folder(path.parent)
        try:
            write_atomically(path, content, replace=False)
        except FileExistsError:
            self.read_mask(index)

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

    def write_calibration(self, pixels: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> None:
        """Store the images that norm statistics are recomputed from: uint8 (N, C, H, W)."""
        content = calibration_file.seal_calibration(self.manifest, pixels, mean, std)
        write_atomically(self.calibration_path, content, replace=True)

    def read_calibration(self) -> tuple[CalibrationRecord, npt.NDArray[np.uint8]]:
        """The images norm statistics are recomputed from, uint8 (N, C, H, W).

        Raises:
            FormatError: missing, damaged, or of another shape than the backbone's input.
        """
        return calibration_file.read_calibration(self.calibration_path, self.manifest)

    def write_recogniser(self, recogniser: StoredRecogniser) -> None:
        """Store the recogniser; one that is there already is kept, since signatures were made with it."""
        content = recogniser_file.seal_recogniser(self.manifest, recogniser)
        try:
            write_atomically(self.recogniser_path, content, replace=False)
        except FileExistsError:
            self.read_recogniser()

    def read_recogniser(self) -> tuple[RecogniserRecord, StoredRecogniser]:
        """What signatures of tasks are made with.

        Raises:
            FormatError: missing, damaged, or of another bank.
        """
        return recogniser_file.read_recogniser(self.recogniser_path, self.manifest)

    def write_projection(self, projection: StoredProjection) -> None:
        """Store the projection; one that is there already is kept, since heads stand on it."""
        content = projection_file.seal_projection(self.manifest, projection)
        try:
            write_atomically(self.projection_path, content, replace=False)
        except FileExistsError:
            self.read_projection()

    def read_projection(self) -> tuple[ProjectionRecord, StoredProjection]:
        """What heads of tasks read features by.

        Raises:
            FormatError: missing, damaged, or of another bank.
        """
        return projection_file.read_projection(self.projection_path, self.manifest)

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
    if path == "":  # which pathlib would take for the current folder
        raise BankNotFound("the path of the bank is empty: is a variable not set?")
    path = Path(path)
    manifest_path = path / MANIFEST
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BankNotFound(
            f"there is no bank at {path}: create one with `impress bank create {path} REF...`"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISDIR(mode):
        raise BankNotFound(f"{path} is a file: a bank is a folder, by habit NAME.impress")
    if not is_there(manifest_path):
        raise BankNotFound(f"{path} holds no {MANIFEST}: it is not a bank")
    for folder in (MASKS, TASKS, PACKS):
        check_folder(path / folder)
    return Bank(path=path, manifest=read_manifest(manifest_path))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def task_exists(path: Path, names: Sequence[str]) -> TaskExists:
    return TaskExists(
        f"{path} has {_listed(names)} already, made with other settings: remove it first (`impress task remove`), or "
        "choose another `name`"
    )
