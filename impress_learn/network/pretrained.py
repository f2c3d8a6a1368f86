"""Weights that others trained: where they come from, and what of them a network takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from impress_format.errors import UsageError
from impress_format.records.network import PretrainedRecord
from impress_learn.network.hub_weights import (
    check_repository,
    commit_of,
    download,
    split_revision,
    timm_repository,
)
from impress_learn.network.kept_weights import keep_weights, locate_weights
from impress_learn.network.weights_file import Weights, read_weights

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
_STEP = "num_batches_tracked"
"""What BatchNorm counts in training; it decides on nothing, and files often lack it."""


def load_weights(source: str, arch: str, existing: PretrainedRecord | None = None) -> Weights:
    """The weights that a new bank is to stand on: a file, `timm:TAG` of its network, or `hf-hub:OWNER/NAME`; the last
    two of the newest revision, or of the one after an `@`.

    They are copied to the cache, where the bank will look for them.

    Args:
        existing: those of a bank that is resumed. A source without revision is the same again, whatever is newest now.

    Raises:
        UsageError: no such source, or a file of a kind that could hold code.
        DataError: they are not there, or cannot be downloaded.
        BackboneMismatch: those of the bank that is resumed are gone, others are in their place.
    """
    family, _, name = source.partition(":")
    if family in ("timm", "hf-hub") and name:
        name, revision = split_revision(name)
        if family == "timm":
            name = _timm_name(arch, name)
        repository = check_repository(name) if family == "hf-hub" else timm_repository(name)
        source = f"{family}:{name}"
        if revision is None and existing is not None and existing.source == source:
            path, revision = locate_weights(existing)[0], existing.revision
        else:
            path = download(repository, revision)
            revision = commit_of(path)
        weights = replace(read_weights(path, source), revision=revision)
        if family == "timm":
            weights = _with_timm_settings(name, weights)
    else:
        expected = "expected FILE.safetensors, timm:TAG or hf-hub:OWNER/NAME"
        path = _regular_file(Path(source).expanduser(), expected)
        weights = read_weights(path, "file:" + re.sub(r"[^\w .,+()-]", "_", path.name))
    keep_weights(path, weights.record(), linked=weights.revision is not None)
    return weights


def add_weights(path: Path) -> tuple[Path, str]:
    """Copy a file of weights to the cache, where the banks that stand on them look: where it lies, and its identity.

    Raises:
        UsageError: it is not there, or of a kind that could hold code.
        DataError: it cannot be read.
        StorageError: it cannot be copied.
    """
    weights = read_weights(_regular_file(path, "expected FILE.safetensors"), f"file:{path.name}")
    return keep_weights(path, weights.record()), weights.record().identity


def _regular_file(path: Path, expected: str) -> Path:
    if path.suffix in _PICKLES:
        raise UsageError(
            f"{path}: a file of this kind may run code when it is read; make a safetensors file of it once, by "
            f"`impress weights convert {path} FILE.safetensors`"
        )
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file of weights; {expected}")
    return path


def put_weights(module: nn.Module, tensors: Mapping[str, Tensor], arch: str) -> None:
    """Copy them into a network, all but its classifier, which is of other classes.

    Raises:
        UsageError: they are those of another network.
    """
    state = module.state_dict()
    own = {name for name in state if not _is_classifier(module, name)}
    given = {name for name in tensors if not _is_classifier(module, name)}
    wrong = [name for name in sorted(own & given) if tensors[name].shape != state[name].shape]
    missing = sorted(name for name in own - given if not name.endswith(_STEP))
    foreign = sorted(name for name in given - own if not name.endswith(_STEP))
    if wrong or missing or foreign:
        what = (
            f"{wrong[0]} has shape {tuple(tensors[wrong[0]].shape)}, expected {tuple(state[wrong[0]].shape)}"
            if wrong
            else f"{missing[0]} is missing"
            if missing
            else f"{foreign[0]} does not belong there"
        )
        raise UsageError(
            f"these weights are not those of {arch}: {what} ({len(own & given) - len(wrong)} of {len(own)} fit).\n"
            "If only names differ, `impress weights convert` with `like` gives them those of timm"
        )
    with torch.no_grad():
        for name in own & given:
            state[name].copy_(tensors[name])


def _is_classifier(module: nn.Module, name: str) -> bool:
    config = getattr(module, "pretrained_cfg", None) or {}
    layers = config.get("classifier") or ()
    return any(name.startswith(f"{layer}.") for layer in ((layers,) if isinstance(layers, str) else layers))


def _timm_name(arch: str, tag: str) -> str:
    """`NAME.TAG` of weights that timm knows for this network.

    Raises:
        UsageError: it knows none of this tag.
    """
    import timm

    model = arch.removeprefix("timm:")
    full = tag if tag.startswith(f"{model}.") else f"{model}.{tag}"
    if full not in (tags := timm.list_models(f"{model}.*", pretrained=True)):
        raise UsageError(f"timm {timm.__version__} has no weights {full!r}; it has " + (", ".join(tags) or "none"))
    return full


def _with_timm_settings(full: str, weights: Weights) -> Weights:
    """With what timm says of them: licence, if their file does not say, and how images were normalised."""
    import timm

    config = timm.get_pretrained_cfg(full)
    assert config is not None
    licence = weights.licence or getattr(config, "license", None)
    return replace(weights, licence=licence, mean=tuple(config.mean), std=tuple(config.std))
