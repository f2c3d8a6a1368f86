"""projection.safetensors: what heads of tasks read features of a pretrained network by (docs/format.md, Projection).

It is kept, not computed again: sign and order of principal directions differ from machine to machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from impress_format.container import seal_tensors, unseal_tensors
from impress_format.errors import FormatError
from impress_format.limits import MAX_DIRECTIONS, MAX_PROJECTION_BYTES
from impress_format.numbers import FloatArray, NumbersError, restore, store
from impress_format.records import BankManifest, ProjectionRecord

_TENSORS = {"mean", "directions", "within", "between"}


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredProjection:
    """A projection of W features to D, rounded as it is stored; the first d of its directions are one too.

    Attributes:
        mean: float16 (W,), subtracted first.
        directions: float32 (W, D).
        within: float32 (D, D), covariance of projected images of one class about their mean.
        between: float32 (D, D), covariance of the means of classes about 0.
    """

    mean: npt.NDArray[np.float16]
    directions: FloatArray
    within: FloatArray
    between: FloatArray

    @property
    def dimensions(self) -> int:
        return int(self.directions.shape[1])


def seal_projection(manifest: BankManifest, projection: StoredProjection) -> bytes:
    """The file of a projection."""
    return seal_tensors(
        ProjectionRecord(format_version=2, backbone=manifest.backbone.digest),
        {
            "mean": projection.mean.astype("<f2"),
            "directions": store(projection.directions, "int8"),
            "within": projection.within.astype("<f2"),
            "between": projection.between.astype("<f2"),
        },
    )


def read_projection(path: Path, manifest: BankManifest) -> tuple[ProjectionRecord, StoredProjection]:
    """The record, and the projection.

    Raises:
        FormatError: missing, damaged, of another bank, or of shapes that do not belong together.
    """
    record, tensors = unseal_tensors(path, ProjectionRecord, MAX_PROJECTION_BYTES)
    if record.backbone != manifest.backbone.digest:
        raise FormatError(path, "belongs to a bank with another backbone")
    if manifest.backbone.pretrained is None:
        raise FormatError(path, "belongs beside pretrained weights, and the bank has none")
    if set(tensors) != _TENSORS:
        raise FormatError(path, f"holds {sorted(tensors)}, expected {sorted(_TENSORS)}")
    width = manifest.backbone.masked_layers[-1].shape[1]
    stored = tensors["directions"]
    dimensions = stored.size // (width + 2)
    if stored.shape != ((width + 2) * dimensions,) or not 1 <= dimensions <= min(width, MAX_DIRECTIONS):
        raise FormatError(
            path, f"directions are {stored.dtype} {stored.shape}: no bytes of 1 to "
            f"{min(width, MAX_DIRECTIONS):,} columns of {width:,} features"
        )  # fmt: skip
    try:
        directions = restore(stored, dimensions)
    except NumbersError as error:
        raise FormatError(path, f"directions {error}") from error
    square = (dimensions, dimensions)
    for name, shape in (("mean", (width,)), ("within", square), ("between", square)):
        values = tensors[name]
        if values.dtype != np.float16 or values.shape != shape or not np.isfinite(values.astype(np.float32)).all():
            raise FormatError(path, f"{name} is {values.dtype} {values.shape}, expected finite float16 {shape}")
    return record, StoredProjection(
        mean=tensors["mean"].astype(np.float16),
        directions=directions,
        within=tensors["within"].astype(np.float32),
        between=tensors["between"].astype(np.float32),
    )
