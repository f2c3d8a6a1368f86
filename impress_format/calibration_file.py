"""calibration.safetensors: the images that norm statistics are recomputed from (docs/format.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from impress_format.container import seal_tensors, unseal_tensors
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


def read_calibration(path: Path, manifest: BankManifest) -> tuple[CalibrationRecord, npt.NDArray[np.uint8]]:
    """The images, uint8 (N, C, H, W), and how they are normalised.

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
    return record, pixels.astype(np.uint8)


def seal_calibration(
    manifest: BankManifest, pixels: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> bytes:
    """The file of these images: uint8 (N, C, H, W)."""
    record = CalibrationRecord(
        mean=tuple(mean),
        std=tuple(std),
        backbone=manifest.backbone.digest,
        format_version=file_version(manifest),
    )
    return seal_tensors(record, {"pixels": np.ascontiguousarray(pixels)})
