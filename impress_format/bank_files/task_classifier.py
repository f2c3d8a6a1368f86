"""recogniser.safetensors: what signatures of tasks are made with and compared by (docs/format.md, Task classifier).

How it is learned and used is impress_learn/recognition/task_classifier.py and pixel_signature.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from impress_format.bank_files.row import BankFile
from impress_format.container.sealed_file import seal_tensors, unseal_tensors
from impress_format.errors import FormatError
from impress_format.limits import MAX_TASK_CLASSIFIER_BYTES
from impress_format.parts.numbers import FloatArray
from impress_format.parts.pixel_signature import count_signs
from impress_format.records.fields import TAG_BYTES, Digest, FullDigest, Record, Share
from impress_format.records.manifest import BankManifest

MOST_POSITIONS = 24
MOST_HIDDEN = 1024
MOST_FEATURES = 1024

_POSITIVE = ("scale", "hidden_step", "between")


class TaskClassifierRecord(Record, frozen=True):
    """Header of the task classifier that signatures of tasks are made with."""

    max_bytes: ClassVar[int] = MAX_TASK_CLASSIFIER_BYTES

    format_version: Literal[2]
    backbone: FullDigest
    sign_weight: Share
    digest: Digest = ""

    @property
    def tag(self) -> bytes:
        """What signatures made with it begin with."""
        return bytes.fromhex(self.digest)[:TAG_BYTES]


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTaskClassifier:
    """A small network of D features, h hidden units and m outputs, rounded as it is stored.

    Attributes:
        center, scale: float16 (D,), what features are shifted and divided by.
        hidden: int8 (D, h), -7 ... 7 in units of `hidden_step`; without it the task classifier has no positions.
        hidden_step, hidden_bias: float32 (h,).
        output: float32 (h, m).
        output_bias: float32 (m,).
        between: float32 (m,), the variance of tasks in each position, where that of images of one task is 1.
        sign_weight: what the score of signs counts, beside that of positions.
    """

    center: npt.NDArray[np.float16]
    scale: npt.NDArray[np.float16]
    hidden: npt.NDArray[np.int8]
    hidden_step: FloatArray
    hidden_bias: FloatArray
    output: FloatArray
    output_bias: FloatArray
    between: FloatArray
    sign_weight: float

    @property
    def positions(self) -> int:
        return len(self.between)

    @property
    def signs(self) -> int:
        """Signs in a signature."""
        return count_signs(self.positions)


def feature_shape(input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Channels, height and width of what a task classifier sees of an image: all of it, or pooled to 1,024 values."""
    channels, height, width = input_shape
    if prod(input_shape) <= MOST_FEATURES:
        return input_shape
    side = max(1, isqrt(MOST_FEATURES // channels))
    return channels, min(side, height), min(side, width)


def seal_task_classifier(manifest: BankManifest, task_classifier: StoredTaskClassifier) -> bytes:
    """The file of a task classifier."""
    record = TaskClassifierRecord(
        format_version=2, backbone=manifest.backbone.digest, sign_weight=task_classifier.sign_weight
    )
    tensors: dict[str, npt.NDArray[np.generic]] = {"center": task_classifier.center, "scale": task_classifier.scale}
    if task_classifier.positions:
        tensors |= {
            "hidden": _pack(task_classifier.hidden),
            "hidden_step": task_classifier.hidden_step,
            "hidden_bias": task_classifier.hidden_bias,
            "output": task_classifier.output,
            "output_bias": task_classifier.output_bias,
            "between": task_classifier.between,
        }
    return seal_tensors(record, {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})


def read_task_classifier(path: Path, manifest: BankManifest) -> tuple[TaskClassifierRecord, StoredTaskClassifier]:
    """The record, and the task classifier.

    Raises:
        FormatError: missing, damaged, of another bank, or of shapes that do not belong together.
    """
    record, tensors = unseal_tensors(path, TaskClassifierRecord, MAX_TASK_CLASSIFIER_BYTES)
    if record.backbone != manifest.backbone.digest:
        raise FormatError(path, "belongs to a bank with another backbone")
    features = prod(feature_shape(manifest.backbone.input_shape))
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "center": ("float16", (features,)),
        "scale": ("float16", (features,)),
    }
    if "hidden" in tensors:
        hidden = len(tensors["hidden_bias"]) if "hidden_bias" in tensors else 0
        positions = len(tensors["between"]) if "between" in tensors else 0
        if not (0 < hidden <= MOST_HIDDEN and hidden % 2 == 0 and 0 < positions <= MOST_POSITIONS):
            raise FormatError(path, f"has {hidden:,} hidden units and {positions:,} positions")
        expected |= {
            "hidden": ("uint8", (features, hidden // 2)),
            "hidden_step": ("float32", (hidden,)),
            "hidden_bias": ("float32", (hidden,)),
            "output": ("float32", (hidden, positions)),
            "output_bias": ("float32", (positions,)),
            "between": ("float32", (positions,)),
        }
    found = {name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        raise FormatError(path, f"holds {_described(found)}, expected {_described(expected)}")
    for name, tensor in tensors.items():
        if not np.isfinite(values := tensor.astype(np.float32)).all() or (name in _POSITIVE and not (values > 0).all()):
            raise FormatError(path, f"{name} holds a value that is not finite, or not above 0")
    none = np.zeros(0, dtype=np.float32)
    return record, StoredTaskClassifier(
        center=tensors["center"].astype(np.float16),
        scale=tensors["scale"].astype(np.float16),
        hidden=_unpack(path, tensors.get("hidden", np.zeros((features, 0), dtype=np.uint8))),
        hidden_step=tensors.get("hidden_step", none).astype(np.float32),
        hidden_bias=tensors.get("hidden_bias", none).astype(np.float32),
        output=tensors.get("output", np.zeros((0, 0), dtype=np.float32)).astype(np.float32),
        output_bias=tensors.get("output_bias", none).astype(np.float32),
        between=tensors.get("between", none).astype(np.float32),
        sign_weight=record.sign_weight,
    )


def _pack(levels: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Levels (D, h), two to a byte, each plus 8: column 2j in the low half, 2j + 1 in the high."""
    shifted = (levels + np.int8(8)).astype(np.uint8)
    return np.bitwise_or(shifted[:, ::2], np.left_shift(shifted[:, 1::2], np.uint8(4)))


def _unpack(path: Path, packed: npt.NDArray[np.generic]) -> npt.NDArray[np.int8]:
    both = packed.astype(np.uint8)
    levels = np.stack([both & 15, both >> 4], axis=2).reshape(len(both), -1).astype(np.int8) - np.int8(8)
    if levels.size and levels.min() < -7:
        raise FormatError(path, "hidden holds -8, which no writer stores")
    return levels


def _described(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in sorted(tensors.items())) or "nothing"


TASK_CLASSIFIER: BankFile[TaskClassifierRecord, StoredTaskClassifier] = BankFile(
    name="recogniser.safetensors",
    most_bytes=MAX_TASK_CLASSIFIER_BYTES,
    belongs=lambda _, manifest: manifest.recogniser,
    read=read_task_classifier,
    seal=seal_task_classifier,
    counted_as="recogniser",
    size=lambda task_classifier: task_classifier.positions,
)
