"""A pickled checkpoint made a safetensors file, once: read without running code, renamed to timm's names if asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impress_format.disk.files import is_there, refuse_taken, write_atomically
from impress_format.errors import DataError, UsageError
from impress_format.records.fields import TEXT
from impress_learn.training.config import require

_WRAPPED = ("state_dict", "model", "model_state_dict", "state_dict_ema")
"""Under which a checkpoint keeps its tensors, beside what else it has."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written: how many tensors, and their identity, which a bank on them shows."""

    tensors: int
    bytes: int
    identity: str


def convert_weights(
    source: Path,
    target: Path,
    *,
    like: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    licence: str | None = None,
    origin: str | None = None,
) -> Converted:
    """Write the tensors of `source` (torch's pickle, or safetensors) to `target`.

    Args:
        like: `timm:NAME`, whose names the tensors get if there are as many, in its order and shapes.
        mean, std, licence, origin: what the file is to say of itself.

    Raises:
        UsageError: the tensors are not those of `like`, or a text is none that a bank could keep.
        DataError: it cannot be read, or holds more than tensors.
        StorageError: there is a file at `target` already, or it cannot be written.
    """
    if is_there(target):
        raise refuse_taken(target)

    import safetensors.torch

    from impress_learn.network.weights_file import Weights

    tensors = _read(source)
    if like is not None:
        tensors = _renamed(tensors, like)
    said = {
        key: ",".join(f"{number:g}" for number in numbers)
        for key, numbers in (("mean", mean), ("std", std))
        if numbers is not None
    }
    for key, text in (("licence", licence), ("origin", origin)):
        if text is not None:
            require(re.search(TEXT, text) is not None, f"`{key}` {text!r}: expected one line that people can read")
            said[key] = text
    content = safetensors.torch.save({name: one.contiguous().clone() for name, one in tensors.items()}, metadata=said)
    try:
        write_atomically(target, content, replace=False)
    except FileExistsError as error:
        raise refuse_taken(target) from error
    identity = Weights(f"file:{target.name}", licence, tensors).record().identity
    return Converted(tensors=len(tensors), bytes=len(content), identity=identity)


def _read(source: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file

    try:
        found = load_file(source) if source.suffix == ".safetensors" else torch.load(source, weights_only=True)
    except FileNotFoundError as error:
        raise UsageError(f"{source}: there is no such file") from error
    except Exception as error:  # pickles fail in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{source} cannot be read without running what is in it, or is no checkpoint: {reason[:200]}"
        ) from error
    while isinstance(found, Mapping) and (inner := next((key for key in _WRAPPED if key in found), None)):
        found = found[inner]
    if not isinstance(found, Mapping) or not found:
        raise DataError(f"{source} holds a {type(found).__name__}, expected tensors by name")
    others = [name for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise DataError(f"{source}: {others[0]} is a {type(found[others[0]]).__name__}, expected tensors alone")
    return {str(name): value for name, value in found.items()}


def _renamed(tensors: Mapping[str, Any], like: str) -> dict[str, Any]:
    import timm

    family, _, name = like.partition(":")
    if family != "timm" or not timm.is_model(name):
        raise UsageError(f"`like` {like}: expected timm:NAME, a model of timm {timm.__version__}")
    expected = timm.create_model(name, pretrained=False).state_dict()
    if len(expected) != len(tensors):
        raise UsageError(f"`like` {like} has {len(expected):,} tensors, the file {len(tensors):,}")
    for (own, tensor), (other, place) in zip(tensors.items(), expected.items(), strict=True):
        if tensor.shape != place.shape:
            raise UsageError(
                f"`like` {like}: {own} of shape {tuple(tensor.shape)} stands where {other} has {tuple(place.shape)}"
            )
    return dict(zip(expected, tensors.values(), strict=True))
