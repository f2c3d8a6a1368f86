"""A bank on disk: open, create, add masks and tasks, remove (docs/format.md).

    NAME.impress/
      bank.json                    the manifest: backbone, and the masks the bank has or will have
      masks/00000.safetensors ...  one file a mask; a finished file is its result
      tasks/NAME.safetensors ...   one file a task
      calibration.safetensors      images for norm statistics; only for networks with BatchNorm

The manifest names every mask before it is trained; a mask that is planned and has no file is still to be
trained. So a killed run is resumed where it stopped, and no file is ever written twice.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from impress_format.codec import BoolArray, CodecError, decode_mask, encode_mask, pack_bits
from impress_format.container import DIGEST_DIGITS, read_outline, read_record, seal_tensors, unseal_json, unseal_tensors
from impress_format.errors import (
    AmbiguousTask,
    BankMismatch,
    BankNotFound,
    FormatError,
    StorageError,
    TaskExists,
    TaskNotFound,
    UsageError,
)
from impress_format.files import (
    check_folder,
    is_there,
    list_folder,
    make_folder,
    read_limited,
    remove_abandoned,
    unreadable,
    write_atomically,
)
from impress_format.limits import (
    MAX_CALIBRATION_BYTES,
    MAX_HEADER_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_TASK_BYTES,
)
from impress_format.manifest import check_manifest
from impress_format.records import (
    TASK_NAME,
    BackboneSpec,
    BankManifest,
    CalibrationRecord,
    MaskRecord,
    TaskRecord,
    alpha_columns,
    supermask_sizes,
)
from impress_format.versions import check_version

MANIFEST = "bank.json"
CALIBRATION = "calibration.safetensors"
MASKS = "masks"
TASKS = "tasks"
_SUFFIX = ".safetensors"

_TASK_NAME = re.compile(TASK_NAME, re.ASCII)

FloatArray = npt.NDArray[np.float32]
AlphaArray = npt.NDArray[np.float32] | npt.NDArray[np.float16]
AlphaType = Literal["float32", "float16"]
ALPHA_TYPES = (np.dtype(np.float32), np.dtype(np.float16))


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOutline:
    """One stored task as a list shows it: its record, the masks it weighs, its coefficients, bytes on disk."""

    record: TaskRecord
    masks: int
    coefficients: int
    bytes: int


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

    def mask_path(self, index: int) -> Path:
        return self.path / MASKS / f"{index:05d}{_SUFFIX}"

    def task_path(self, name: str) -> Path:
        return self.path / TASKS / f"{check_task_name(name)}{_SUFFIX}"

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

    def basis_digest(self, count: int) -> str:
        """Digest of the backbone and the bits of the first `count` masks: all that an alpha over them depends on."""
        for index in range(count):
            if index not in self._bits:
                self._bits[index] = self.read_mask_record(index).bits
        parts = [self.backbone.digest, *(self._bits[index] for index in range(count))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGEST_DIGITS]

    def task_names(self) -> list[str]:
        """Names of the stored tasks, sorted as people count: task-9 before task-10.

        Raises:
            StorageError: the folder may not be read.
        """
        stems = (name.removesuffix(_SUFFIX) for name in list_folder(self.path / TASKS) if name.endswith(_SUFFIX))
        return sorted(filter(_TASK_NAME.fullmatch, stems), key=_as_people_count)

    def find_task(self, name_or_reference: str) -> str:
        """The stored name of a task given by name or by reference (`rotated-mnist/30`).

        Raises:
            TaskNotFound: with the names there are.
            AmbiguousTask: several tasks were learned from this reference.
        """
        names = self.task_names()
        if name_or_reference in names:
            return name_or_reference
        found = [name for name in names if self.read_task_record(name).task == name_or_reference]
        if len(found) > 1:
            raise AmbiguousTask(
                f"{self.path} has {len(found)} tasks of {name_or_reference} ({_listed(found)}): give the name of one"
            )
        if found:
            return found[0]
        raise TaskNotFound(f"{self.path} has no task {name_or_reference!r}: " + (f"it has {_listed(names)}" if names
            else "it has none yet; add one with `impress task add`"))  # fmt: skip

    def read_mask(self, index: int) -> tuple[MaskRecord, dict[str, BoolArray]]:
        """One supermask: bool arrays by layer name, in the shapes of the layers.

        Raises:
            FormatError: the file is missing, damaged, or not the mask that was planned.
        """
        path = self.mask_path(index)
        layers = self.backbone.masked_layers
        record, tensors = unseal_tensors(path, MaskRecord, self._mask_limit())
        self._check_mask_record(path, index, record)
        if set(tensors) != {layer.name for layer in layers}:
            raise FormatError(path, f"holds masks for {sorted(tensors)}, expected the backbone's {len(layers)} layers")
        masks = {}
        for layer, ones in zip(layers, record.ones, strict=True):
            frame = tensors[layer.name]
            if frame.dtype != np.uint8 or frame.ndim != 1:
                raise FormatError(path, f"{layer.name}: expected a row of bytes, found {frame.dtype} {frame.shape}")
            try:
                masks[layer.name] = decode_mask(frame.tobytes(), layer.shape, ones)
            except CodecError as error:
                raise FormatError(path, f"{layer.name}: {error}") from error
        if bits_digest(list(masks.values())) != record.bits:
            raise FormatError(path, "its masks do not have the digest written in it")
        return record, masks

    def read_mask_record(self, index: int) -> MaskRecord:
        """Only the header of a mask file (its checksum is checked)."""
        path = self.mask_path(index)
        record = read_record(path, MaskRecord, self._mask_limit())
        self._check_mask_record(path, index, record)
        return record

    def read_task(self, name: str) -> tuple[TaskRecord, FloatArray]:
        """One task's record and alpha, float32 (K, columns) in whichever type it is stored.

        Raises:
            TaskNotFound: there is no such task.
            FormatError: the file is damaged, or belongs to another basis.
        """
        record, alpha = self._read_task(name)
        return record, alpha.astype(np.float32)

    def read_alpha_type(self, name: str) -> AlphaType:
        """The type a task's alpha is stored in.

        Raises:
            TaskNotFound, FormatError: as read_task.
        """
        return "float16" if self._read_task(name)[1].dtype == np.float16 else "float32"

    def read_task_record(self, name: str) -> TaskRecord:
        """Only the header of a task file (its checksum is checked)."""
        path = self.task_path(name)
        if not is_there(path):
            self.find_task(name)
        return read_record(path, TaskRecord, self._task_limit())

    def outline_task(self, name: str) -> TaskOutline:
        """What a list of tasks shows of one, from one reading of its file; `read_task` checks all there is to check.

        Raises:
            TaskNotFound: there is no such task.
            FormatError: the file is damaged.
        """
        path = self.task_path(name)
        try:
            record, shapes, size = read_outline(path, TaskRecord, self._task_limit())
        except FormatError:
            if not is_there(path):
                self.find_task(name)
            raise
        if len(shape := shapes.get("alpha", ())) != 2:
            raise FormatError(path, f"holds {sorted(shapes)}, expected alpha of two axes")
        return TaskOutline(record=record, masks=shape[0], coefficients=shape[0] * shape[1], bytes=size)

    def write_mask(self, index: int, masks: Mapping[str, BoolArray], accuracy: float | None) -> None:
        """Store a trained mask; one that is there already is kept (an equal run made it)."""
        plan = self.manifest.masks[index]
        record = MaskRecord(
            index=index,
            plan=plan,
            ones=tuple(int(np.count_nonzero(masks[layer.name])) for layer in self.backbone.masked_layers),
            bits=bits_digest([masks[layer.name] for layer in self.backbone.masked_layers]),
            backbone=self.backbone.digest,
            accuracy=accuracy,
        )
        self._check_mask_record(self.mask_path(index), index, record)
        frames = {
            layer.name: np.frombuffer(encode_mask(masks[layer.name]), dtype=np.uint8)
            for layer in self.backbone.masked_layers
        }
        make_folder(self.path / MASKS)
        try:
            write_atomically(self.mask_path(index), seal_tensors(record, frames), replace=False)
        except FileExistsError:
            self.read_mask(index)

    def write_task(self, record: TaskRecord, alpha: AlphaArray, *, replace: bool = False) -> int:
        """Store a task, alpha as float16 if it is float16 and else as float32; return the bytes its file takes.

        Raises:
            TaskExists: a task of this name is there, and `replace` is false.
        """
        path = self.task_path(record.name)
        stored = alpha if alpha.dtype == np.float16 else alpha.astype(np.float32)
        content = seal_tensors(record, {"alpha": np.ascontiguousarray(stored)})
        make_folder(path.parent)
        remove_abandoned(path.parent)
        try:
            write_atomically(path, content, replace=replace)
        except FileExistsError as error:
            raise task_exists(self.path, [record.name]) from error
        return len(content)

    def remove_task(self, name_or_reference: str) -> str:
        """Delete a task's file and return its name.

        Raises:
            TaskNotFound: there is no such task.
        """
        name = self.find_task(name_or_reference)
        try:
            self.task_path(name).unlink()
        except OSError as error:
            raise StorageError(f"cannot remove {self.task_path(name)}: {error.strerror or error}") from error
        return name

    def write_calibration(self, pixels: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> None:
        """Store the images that norm statistics are recomputed from: uint8 (N, C, H, W)."""
        record = CalibrationRecord(mean=tuple(mean), std=tuple(std), backbone=self.backbone.digest)
        content = seal_tensors(record, {"pixels": np.ascontiguousarray(pixels)})
        write_atomically(self.calibration_path, content, replace=True)

    def read_calibration(self) -> tuple[CalibrationRecord, npt.NDArray[np.uint8]]:
        """The images norm statistics are recomputed from, uint8 (N, C, H, W).

        Raises:
            FormatError: missing, damaged, or of another shape than the backbone's input.
        """
        path = self.calibration_path
        record, tensors = unseal_tensors(path, CalibrationRecord, MAX_CALIBRATION_BYTES)
        pixels = tensors.get("pixels")
        if set(tensors) != {"pixels"} or pixels is None:
            raise FormatError(path, f"holds {sorted(tensors)}, expected one tensor, pixels")
        channels, height, width = self.backbone.input_shape
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (channels, height, width):
            raise FormatError(
                path, f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (N, {channels}, {height}, {width})"
            )
        if not len(record.mean) == len(record.std) == channels:
            raise FormatError(path, f"has mean and std of {len(record.mean)} and {len(record.std)} channels, "
                f"the backbone takes {channels}")  # fmt: skip
        if record.backbone != self.backbone.digest:
            raise FormatError(path, "belongs to a bank with another backbone")
        return record, pixels.astype(np.uint8)

    def _read_task(self, name: str) -> tuple[TaskRecord, npt.NDArray[np.generic]]:
        """A task's record and its alpha as it is stored, both checked."""
        path = self.task_path(name)
        if not is_there(path):
            self.find_task(name)
        record, tensors = unseal_tensors(path, TaskRecord, self._task_limit())
        if record.name != name:
            raise FormatError(path, f"holds task {record.name!r}, its file name says {name!r}")
        if set(tensors) != {"alpha"}:
            raise FormatError(path, f"holds {sorted(tensors)}, expected one tensor, alpha")
        alpha = tensors["alpha"]
        columns = sum(alpha_columns(self.backbone.masked_layers, record.granularity))
        planned = len(self.manifest.masks)
        if alpha.dtype not in ALPHA_TYPES or alpha.ndim != 2 or alpha.shape[1] != columns:
            raise FormatError(
                path, f"alpha is {alpha.dtype} {alpha.shape}, expected float32 or float16 (masks, {columns})"
            )
        if not 1 <= len(alpha) <= planned:
            raise FormatError(path, f"alpha weighs {len(alpha)} masks, the bank has {planned}")
        if not np.isfinite(alpha.astype(np.float32)).all():
            raise FormatError(path, "alpha holds NaN or infinite values")
        if record.basis != self.basis_digest(len(alpha)):
            raise FormatError(path, "was learned over another basis: it belongs to another bank")
        return record, alpha

    def _mask_limit(self) -> int:
        """Bytes of the largest honest mask file: incompressible bits and classes, frames, header."""
        return MAX_HEADER_BYTES + sum(
            layer.size // 8 + layer.size // layer.shape[0] + layer.shape[0] + 1024
            for layer in self.backbone.masked_layers
        )

    def _task_limit(self) -> int:
        """Bytes of the largest task file: a float32 for each output channel and mask, header."""
        channels = sum(layer.shape[0] for layer in self.backbone.masked_layers)
        return min(MAX_TASK_BYTES, MAX_HEADER_BYTES + 4 * channels * len(self.manifest.masks))

    def _check_mask_record(self, path: Path, index: int, record: MaskRecord) -> None:
        if record.index != index or record.plan != self.manifest.masks[index]:
            raise FormatError(path, f"is not the mask planned at {index} ({self.manifest.masks[index].label})")
        if record.backbone != self.backbone.digest:
            raise FormatError(path, f"was made for backbone {record.backbone[:12]}…, not {self.backbone.digest[:12]}…")
        expected = supermask_sizes(self.backbone.masked_layers, record.plan.density)
        if record.ones != expected:
            raise FormatError(path, f"has {record.ones} ones, expected {expected} at density {record.plan.density}")


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
    for folder in (MASKS, TASKS):
        check_folder(path / folder)
    content = read_limited(manifest_path, MAX_MANIFEST_BYTES)
    check_version(manifest_path, content)
    manifest = unseal_json(manifest_path, content, BankManifest)
    check_manifest(manifest_path, manifest)
    return Bank(path=path, manifest=manifest)


def _as_people_count(name: str) -> list[str]:
    return [part.zfill(12) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def check_task_name(name: str) -> str:
    """The name, if a task may have it: letters, digits, '.', '_', '-', at most 100, not starting with a sign.

    Raises:
        UsageError: it may not (so that a name can never lead out of the bank's folder).
    """
    if not _TASK_NAME.fullmatch(name):
        raise UsageError(f"invalid task name {name!r}: up to 100 of A-Z a-z 0-9 . _ - starting with a letter or digit")
    return name


def task_exists(path: Path, names: Sequence[str]) -> TaskExists:
    return TaskExists(
        f"{path} has {_listed(names)} already, made with other settings: remove it first (`impress task remove`), or "
        "choose another `name`"
    )


def bits_digest(masks: Sequence[BoolArray]) -> str:
    """Digest of one supermask: its layers in order, packed as they are before compression."""
    digest = hashlib.sha256()
    for mask in masks:
        digest.update(pack_bits(mask))
    return digest.hexdigest()[:DIGEST_DIGITS]
