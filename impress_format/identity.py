"""`identity.safetensors`: what signatures of tasks are made and compared with (docs/format.md, Identity).

The statistics are those of features of the basis tasks' images: D numbers an image. How they are learned and used is
impress_learn/identity.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.container import seal_tensors, unseal_tensors
from impress_format.errors import FormatError
from impress_format.files import write_atomically
from impress_format.limits import MAX_IDENTITY_BYTES
from impress_format.records import SIGNATURE_BYTES, IdentityRecord

_POSITIVE = ("scale", "nuisance_step", "direction_step", "within", "between")

MOST_FEATURES = 1 << 14
MOST_NUISANCES = 256
MOST_DIRECTIONS = 16
"""Of the 64 bytes of a signature, one for each direction and one for the gain; the others hold eight signs each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Identity:
    """Statistics of D features over the images of the basis tasks, rounded as they are stored.

    Attributes:
        center, scale: float16 (D,), what features are shifted and divided by.
        nuisance: int8 (D, r), -7 ... 7 in units of nuisance_step: directions in which images of one task differ.
        nuisance_step: float32 (r,).
        directions: int8 (m, D) in units of direction_step: directions in which tasks differ.
        direction_step: float32 (m,).
        within, between: float32 (m + 1,): variance of images of one task, and of tasks, in each of these directions
            and, last, in a random one.
    """

    center: npt.NDArray[np.float16]
    scale: npt.NDArray[np.float16]
    nuisance: npt.NDArray[np.int8]
    nuisance_step: npt.NDArray[np.float32]
    directions: npt.NDArray[np.int8]
    direction_step: npt.NDArray[np.float32]
    within: npt.NDArray[np.float32]
    between: npt.NDArray[np.float32]

    @property
    def signs(self) -> int:
        """Signs in a signature."""
        return 8 * (SIGNATURE_BYTES - 1 - len(self.directions))


def write_identity(bank: Bank, identity: Identity, mean: Sequence[float], std: Sequence[float]) -> None:
    """Store the statistics; a file that is there already is kept, since signatures were made with it."""
    tensors: dict[str, npt.NDArray[np.generic]] = {
        "center": identity.center,
        "scale": identity.scale,
        "within": identity.within,
        "between": identity.between,
    }
    if identity.nuisance.size:
        tensors |= {"nuisance": _pack(identity.nuisance), "nuisance_step": identity.nuisance_step}
    if identity.directions.size:
        tensors |= {"directions": identity.directions.view(np.uint8), "direction_step": identity.direction_step}
    record = IdentityRecord(mean=tuple(mean), std=tuple(std), backbone=bank.backbone.digest)
    content = seal_tensors(record, {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    try:
        write_atomically(bank.identity_path, content, replace=False)
    except FileExistsError:
        read_identity(bank)


def read_identity(bank: Bank) -> tuple[IdentityRecord, Identity]:
    """The record and the statistics.

    Raises:
        FormatError: missing, damaged, or of shapes that do not belong together.
    """
    path = bank.identity_path
    record, tensors = unseal_tensors(path, IdentityRecord, MAX_IDENTITY_BYTES)
    channels = bank.backbone.input_shape[0]
    if not len(record.mean) == len(record.std) == channels:
        raise FormatError(path, f"has mean and std of {len(record.mean)} and {len(record.std)} channels, "
            f"the backbone takes {channels}")  # fmt: skip
    if record.backbone != bank.backbone.digest:
        raise FormatError(path, "belongs to a bank with another backbone")
    features = len(tensors["center"]) if "center" in tensors else 0
    nuisances = len(tensors["nuisance_step"]) if "nuisance_step" in tensors else 0
    directions = len(tensors["direction_step"]) if "direction_step" in tensors else 0
    if features > MOST_FEATURES or nuisances > MOST_NUISANCES or directions > MOST_DIRECTIONS:
        raise FormatError(path, f"has {features} features, {nuisances} nuisances and {directions} directions: too many")
    expected: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "center": (np.float16, (features,)),
        "scale": (np.float16, (features,)),
        "within": (np.float32, (directions + 1,)),
        "between": (np.float32, (directions + 1,)),
    }
    if nuisances:
        expected["nuisance"] = (np.uint8, (features, -(-nuisances // 2)))
        expected["nuisance_step"] = (np.float32, (nuisances,))
    if directions:
        expected["directions"] = (np.uint8, (directions, features))
        expected["direction_step"] = (np.float32, (directions,))
    found = {name: (tensor.dtype.type, tensor.shape) for name, tensor in tensors.items()}
    if found != expected or not features:
        raise FormatError(path, f"holds {_described(found)}, expected {_described(expected)}")
    for name, tensor in tensors.items():
        values = tensor.astype(np.float32)
        if not np.isfinite(values).all() or (name in _POSITIVE and not (values > 0).all()):
            raise FormatError(path, f"{name} holds values that no statistics have")
    none = np.zeros(0, np.float32)
    return record, Identity(
        center=tensors["center"].astype(np.float16),
        scale=tensors["scale"].astype(np.float16),
        nuisance=_unpack(tensors.get("nuisance", np.zeros((features, 0), np.uint8)), nuisances),
        nuisance_step=tensors.get("nuisance_step", none).astype(np.float32),
        directions=tensors.get("directions", np.zeros((0, features), np.uint8)).astype(np.uint8).view(np.int8),
        direction_step=tensors.get("direction_step", none).astype(np.float32),
        within=tensors["within"].astype(np.float32),
        between=tensors["between"].astype(np.float32),
    )


def _pack(levels: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Levels -7 ... 7 of shape (D, r), two to a byte, each plus 8: column 2j in the low half, 2j + 1 in the high."""
    padded = np.pad((levels + 8).astype(np.uint8), ((0, 0), (0, levels.shape[1] % 2)))
    return np.bitwise_or(padded[:, ::2], np.left_shift(padded[:, 1::2], np.uint8(4)))


def _unpack(packed: npt.NDArray[np.generic], columns: int) -> npt.NDArray[np.int8]:
    both = packed.astype(np.uint8)
    halves = np.stack([both & 15, both >> 4], axis=2).reshape(len(both), -1)[:, :columns]
    return halves.astype(np.int8) - np.int8(8)


def _described(tensors: dict[str, tuple[type[np.generic], tuple[int, ...]]]) -> str:
    return (
        ", ".join(f"{name} {dtype.__name__} {shape}" for name, (dtype, shape) in sorted(tensors.items())) or "nothing"
    )
