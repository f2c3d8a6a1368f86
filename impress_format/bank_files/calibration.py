"""calibration.safetensors: the images that norm statistics are recomputed from (docs/format.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from impress_format.bank_files.row import BankFile
from impress_format.container.sealed_file import seal_tensors, unseal_tensors
from impress_format.errors import FormatError
from impress_format.limits import MAX_CALIBRATION_BYTES
from impress_format.manifest import check_file_version, file_version
from impress_format.records.fields import Deviation, Digest, FileVersion, FullDigest, Mean, Record
from impress_format.records.manifest import BankManifest


class CalibrationRecord(Record, frozen=True, omit_defaults=True):
    """Header of the calibration images: how to normalise their pixels (units of pixel / 255, per channel)."""

    max_bytes: ClassVar[int] = MAX_CALIBRATION_BYTES

    mean: tuple[Mean, ...]
    std: tuple[Deviation, ...]
    backbone: FullDigest
    format_version: FileVersion = 1
    digest: Digest = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredCalibration:
    """Images and how they are normalised.

    Attributes:
        pixels: uint8 (N, C, H, W).
        mean, std: of each channel, in units of pixel / 255.
    """

    pixels: npt.NDArray[np.uint8]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_calibration(path: Path, manifest: BankManifest) -> tuple[CalibrationRecord, StoredCalibration]:
    """The record, and the images with how they are normalised.

    Raises:
        FormatError: missing, damaged, or of another shape than the backbone's input.
    """
    backbone = manifest.backbone
    record, tensors = unseal_tensors(path, CalibrationRecord, MAX_CALIBRATION_BYTES)
    check_file_version(path, record.format_version, manifest)
    pixels = tensors.get("pixels")
    if set(tensors) != {"pixels"} or pixels is None:
        raise FormatError(path, f"holds {sorted(tensors)}, expected one tensor, pixels")
    channels, height, width = backbone.input_shape
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (channels, height, width):
        raise FormatError(
            path, f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (N, {channels}, {height}, {width})"
        )
    if not len(record.mean) == len(record.std) == channels:
        raise FormatError(path, f"has mean and std of {len(record.mean)} and {len(record.std)} channels, "
            f"the backbone takes {channels}")  # fmt: skip
    if record.backbone != backbone.digest:
        raise FormatError(path, "belongs to a bank with another backbone")
    return record, StoredCalibration(pixels=pixels.astype(np.uint8), mean=record.mean, std=record.std)


def seal_calibration(manifest: BankManifest, calibration: StoredCalibration) -> bytes:
    """The file of these images."""
    record = CalibrationRecord(
        mean=calibration.mean,
        std=calibration.std,
        backbone=manifest.backbone.digest,
        format_version=file_version(manifest),
    )
    return seal_tensors(record, {"pixels": np.ascontiguousarray(calibration.pixels)})


def _reseal(path: Path, manifest: BankManifest) -> bytes | None:
    record, calibration = read_calibration(path, manifest)
    return None if record.format_version == file_version(manifest) else seal_calibration(manifest, calibration)


CALIBRATION: BankFile[CalibrationRecord, StoredCalibration] = BankFile(
    name="calibration.safetensors",
    most_bytes=MAX_CALIBRATION_BYTES,
    belongs=lambda _, manifest: manifest.calibration,
    read=read_calibration,
    seal=seal_calibration,
    counted_as="backbone",
    replaced=True,
    reseal=_reseal,
)
