"""Weights that others trained: where they come from, what of them a network takes, how a bank finds them again."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from impress_format.errors import BackboneMismatch, DataError, StorageError, UsageError
from impress_format.files import make_folder
from impress_format.records import PretrainedRecord
from impress_learn.streams.data_dir import named_or_cache

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
_HUB_FILE = "model.safetensors"
_STEP = "num_batches_tracked"
"""What BatchNorm counts in training; it decides on nothing, and files often lack it."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors by name, as they lie in a file, and what is said of them there.

    Attributes:
        source: `file:NAME`, `timm:NAME.TAG` or `hf-hub:OWNER/NAME`.
        licence, origin: terms, and where to get the file; None where the source does not say.
        mean, std: by which images were normalised, per channel; None where the source does not say.
    """

    source: str
    licence: str | None
    tensors: Mapping[str, Tensor]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    origin: str | None = None

    def record(self) -> PretrainedRecord:
        """What a bank keeps of them."""
        return PretrainedRecord(
            source=self.source,
            licence=self.licence,
            origin=self.origin,
            tensors={name: tensor_digest(tensor) for name, tensor in self.tensors.items()},
        )


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes in C order, little-endian."""
    return hashlib.sha256(
        tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    ).hexdigest()


def load_weights(source: str, arch: str) -> Weights:
    """The weights that a new bank is to stand on: a file, `timm:TAG` of its network, or `hf-hub:OWNER/NAME`.

    A file is copied to the cache, where the bank will look for it.

    Raises:
        UsageError: no such source, or a file of a kind that could hold code.
        DataError: they are not there, or cannot be downloaded.
    """
    family, _, name = source.partition(":")
    if family == "hf-hub" and name:
        return _read(_from_hub(name), source)
    if family == "timm" and name:
        return _from_timm(arch, name)
    path = _plain_file(Path(source).expanduser(), "expected FILE.safetensors, timm:TAG or hf-hub:OWNER/NAME")
    weights = _read(path, "file:" + re.sub(r"[^\w .,+()-]", "_", path.name))
    _keep(path, weights)
    return weights


def add_weights(path: Path) -> tuple[Path, str]:
    """Copy a file of weights to the cache, where the banks that stand on them look: where it lies, and its identity.

    Raises:
        UsageError: it is not there, or of a kind that could hold code.
        DataError: it cannot be read.
        StorageError: it cannot be copied.
    """
    weights = _read(_plain_file(path, "expected FILE.safetensors"), f"file:{path.name}")
    return _keep(path, weights), weights.record().identity


def _plain_file(path: Path, expected: str) -> Path:
    if path.suffix in _PICKLES:
        raise UsageError(
            f"{path}: a file of this kind may run code when it is read; make a safetensors file of it once, by "
            f"`impress weights convert {path} FILE.safetensors`"
        )
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file of weights; {expected}")
    return path


def _keep(path: Path, weights: Weights) -> Path:
    target = _cached(weights.record())
    if not target.exists():
        make_folder(target.parent)
        part = target.with_name(f".{target.name}.part")
        try:
            shutil.copyfile(path, part)
            part.replace(target)
        except OSError as error:
            raise StorageError(f"cannot write {target}: {error.strerror}") from error
    return target


def find_weights(record: PretrainedRecord) -> Mapping[str, Tensor]:
    """The tensors that a bank stands on, each held to its digest.

    Raises:
        DataError: they are nowhere, with what to do.
        BackboneMismatch: what is there are others.
    """
    family, _, name = record.source.partition(":")
    path = _cached(record)
    if not path.exists() and family in ("timm", "hf-hub"):
        path = _from_hub(name) if family == "hf-hub" else _from_hub(_timm_repository(name))
    if not path.exists():
        licence = f", {record.licence}" if record.licence else ""
        origin = f", from {record.origin}," if record.origin else ""
        raise DataError(
            f"the bank stands on weights that are not here: {record.source} ({len(record.tensors):,} tensors{licence}, "
            f"id {record.identity[:16]}).\nGet that file{origin} and give it once: "
            "impress weights add FILE.safetensors"
        )
    tensors = _read(path, record.source).tensors
    for tensor_name, digest in record.tensors.items():
        found = tensors.get(tensor_name)
        if found is None or tensor_digest(found) != digest:
            raise BackboneMismatch(
                f"{path}: tensor {tensor_name} is not that of the bank's weights ({record.source}): another file, or "
                "damaged"
            )
    return tensors


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
            "If only names differ, `impress weights convert --like` gives them those of timm"
        )
    with torch.no_grad():
        for name in own & given:
            state[name].copy_(tensors[name])


def _is_classifier(module: nn.Module, name: str) -> bool:
    config = getattr(module, "pretrained_cfg", None) or {}
    layers = config.get("classifier") or ()
    return any(name.startswith(f"{layer}.") for layer in ((layers,) if isinstance(layers, str) else layers))


def _cached(record: PretrainedRecord) -> Path:
    folder = named_or_cache("IMPRESS_WEIGHTS", "weights")
    if folder is None:
        raise StorageError("this user has no home folder to keep weights in: set IMPRESS_WEIGHTS")
    return folder / f"{record.identity[:32]}.safetensors"


def _read(path: Path, source: str) -> Weights:
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


def _from_timm(arch: str, tag: str) -> Weights:
    import timm

    model = arch.removeprefix("timm:")
    full = tag if tag.startswith(f"{model}.") else f"{model}.{tag}"
    if full not in (tags := timm.list_models(f"{model}.*", pretrained=True)):
        raise UsageError(f"timm {timm.__version__} has no weights {full!r}; it has " + (", ".join(tags) or "none"))
    config = timm.get_pretrained_cfg(full)
    read = _read(_from_hub(_timm_repository(full)), f"timm:{full}")
    assert config is not None
    licence = read.licence or getattr(config, "license", None)
    return replace(read, licence=licence, mean=tuple(config.mean), std=tuple(config.std))


def _timm_repository(full: str) -> str:
    import timm

    config = timm.get_pretrained_cfg(full)
    return str(getattr(config, "hf_hub_id", None) or f"timm/{full}")


def _from_hub(repository: str) -> Path:
    """The file in the cache of huggingface_hub, downloaded if it is not there and HF_HUB_OFFLINE is not set.

    Raises:
        DataError: it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, _HUB_FILE))
    except Exception as error:  # of several HTTP clients, each with errors of its own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"{_HUB_FILE} of https://huggingface.co/{repository} is not in the cache of huggingface_hub and could not "
            f"be downloaded ({reason[:200]})"
        ) from error
