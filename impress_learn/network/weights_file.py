"""A file of weights that others trained: its tensors, and what it says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from impress_format.errors import DataError
from impress_format.records.network import PretrainedRecord


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors by name, as they lie in a file, and what is said of them there.

    Attributes:
        source: `file:NAME`, `timm:NAME.TAG` or `hf-hub:OWNER/NAME`.
        revision: the commit of the Hub's repository that they are of; None for a file.
        licence, origin: terms, and where to get the file; None where the source does not say.
        mean, std: by which images were normalised, per channel; None where the source does not say.
    """

    source: str
    licence: str | None
    tensors: Mapping[str, Tensor]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    origin: str | None = None
    revision: str | None = None

    def record(self) -> PretrainedRecord:
        """What a bank keeps of them."""
        return PretrainedRecord(
            source=self.source,
            revision=self.revision,
            licence=self.licence,
            origin=self.origin,
            tensors={name: tensor_digest(tensor) for name, tensor in self.tensors.items()},
        )


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes in C order, little-endian."""
    return hashlib.sha256(
        tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    ).hexdigest()


def read_weights(path: Path, source: str) -> Weights:
    """The weights in a file.

    Args:
        source: what they are called (`Weights.source`).

    Raises:
        DataError: it cannot be read, or a value is NaN or infinite.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is no safetensors file that can be read: {error}") from error
    if bad := next((name for name, one in tensors.items() if not bool(torch.isfinite(one.float()).all())), None):
        raise DataError(f"{path}: tensor {bad} has values that are NaN or infinite")
    mean, std = (_numbers(path, said, key) for key in ("mean", "std"))
    licence = said.get("licence") or said.get("license")
    return Weights(source, licence or None, tensors, mean, std, said.get("origin") or None)


def _numbers(path: Path, said: Mapping[str, str], key: str) -> tuple[float, ...] | None:
    if key not in said:
        return None
    try:
        return tuple(float(word) for word in said[key].split(","))
    except ValueError as error:
        raise DataError(f"{path}: its metadata has `{key}` {said[key]!r}, expected numbers between commas") from error
