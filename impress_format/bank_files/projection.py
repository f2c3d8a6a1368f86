"""projection.safetensors: what heads of tasks read features of a pretrained network by (docs/format.md, Projection).

It is kept, not computed again: sign and order of principal directions differ from machine to machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from impress_format.bank_files.adaptation import CODES, STEPS, StoredAdaptation, restore_adaptation
from impress_format.bank_files.row import BankFile
from impress_format.container.sealed_file import seal_tensors, unseal_tensors
from impress_format.disk.files import is_there
from impress_format.errors import FormatError
from impress_format.limits import MAX_DIRECTIONS, MAX_MASKS, MAX_PROJECTION_BYTES
from impress_format.parts.numbers import FloatArray, NumbersError, restore, store
from impress_format.records.fields import (
    TAG_BYTES,
    Digest,
    FullDigest,
    Holdout,
    NumberOf,
    Record,
    Text,
    Threads,
    ValueBits,
)
from impress_format.records.manifest import BankManifest

_TENSORS = {"mean", "directions", "within", "between"}


class ProjectionRecord(Record, frozen=True):
    """Header of the projection that heads of tasks stand on.

    `tasks` are those whose images it was made of, but for a share of `holdout`. Where the network was moved towards
    them first, `epochs` is for how long, `layers` how many of the last layers before the classifier that concerns, and
    `bits` what each of their weights takes; all 0 where it was not. `threads`, of a CPU, is unset for one.
    """

    max_bytes: ClassVar[int] = MAX_PROJECTION_BYTES

    format_version: Literal[2]
    backbone: FullDigest
    tasks: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=MAX_MASKS)]
    holdout: Holdout
    epochs: NumberOf
    layers: NumberOf
    bits: ValueBits
    threads: Threads | msgspec.UnsetType = msgspec.UNSET
    digest: Digest = ""

    @property
    def tag(self) -> bytes:
        """What signatures made with it begin with."""
        return bytes.fromhex(self.digest)[:TAG_BYTES]


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredProjection:
    """A projection of W features to D, rounded as it is stored; the first d of its directions are one too.

    Attributes:
        mean: float16 (W,), subtracted first.
        directions: float32 (W, D).
        within: float32 (D, D), covariance of projected images of one class about their mean.
        between: float32 (D, D), covariance of the means of classes about 0.
        tasks: whose images it was made of, but for a share of `holdout`.
        adaptation: what moved the network first, in `epochs`; None for features of the network as it is.
        threads: of a CPU, that it was made in.
    """

    mean: npt.NDArray[np.float16]
    directions: FloatArray
    within: FloatArray
    between: FloatArray
    tasks: tuple[str, ...] = ()  # at least one where it is stored
    holdout: float = 0.0
    adaptation: StoredAdaptation | None = None
    epochs: int = 0
    threads: int = 1

    @property
    def dimensions(self) -> int:
        return int(self.directions.shape[1])


def seal_projection(manifest: BankManifest, projection: StoredProjection) -> bytes:
    """The file of a projection."""
    weight_delta = projection.adaptation
    return seal_tensors(
        ProjectionRecord(
            format_version=2,
            backbone=manifest.backbone.digest,
            tasks=projection.tasks,
            holdout=projection.holdout,
            epochs=projection.epochs,
            layers=0 if weight_delta is None else weight_delta.layers,
            bits=0 if weight_delta is None else weight_delta.bits,
            threads=msgspec.UNSET if projection.threads == 1 else projection.threads,
        ),
        {
            **({} if weight_delta is None else weight_delta.tensors()),
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
    expected = _TENSORS | ({CODES, STEPS} if record.layers else set())
    if set(tensors) != expected:
        raise FormatError(path, f"holds {sorted(tensors)}, expected {sorted(expected)}")
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
        tasks=record.tasks,
        holdout=record.holdout,
        adaptation=_read_adaptation(path, record, tensors, manifest),
        epochs=record.epochs,
        mean=tensors["mean"].astype(np.float16),
        directions=directions,
        within=tensors["within"].astype(np.float32),
        between=tensors["between"].astype(np.float32),
    )


def _read_adaptation(
    path: Path, record: ProjectionRecord, tensors: Mapping[str, npt.NDArray[np.generic]], manifest: BankManifest
) -> StoredAdaptation | None:
    layers, bits = record.layers, record.bits
    if (layers > 0) != (bits > 0) or (layers > 0) != (record.epochs > 0):
        raise FormatError(path, f"says that {layers} layers were moved in {record.epochs} epochs, {bits} bits a weight")
    if not bits:
        return None
    fine_tuned = manifest.backbone.adapted_layers(layers) if layers < len(manifest.backbone.masked_layers) else ()
    if not fine_tuned:
        raise FormatError(path, f"says that {layers:,} layers were moved, the network has none such")
    return restore_adaptation(path, tensors, layers, bits, fine_tuned)


PROJECTION: BankFile[ProjectionRecord, StoredProjection] = BankFile(
    name="projection.safetensors",
    most_bytes=MAX_PROJECTION_BYTES,
    belongs=lambda path, manifest: manifest.backbone.pretrained is not None and is_there(path),
    read=read_projection,
    seal=seal_projection,
    counted_as="projection",
    binds=True,
    size=lambda projection: projection.dimensions,
)
