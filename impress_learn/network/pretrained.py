"""Weights that others trained: where they come from, what of them a network takes, how a bank finds them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from impress_format.errors import BackboneMismatch, DataError, StorageError, UsageError
from impress_format.files import make_folder
from impress_format.records import PretrainedRecord
from impress_learn.network.hub_weights import (
    HUB_FILE,
    cached_files,
    check_repository,
    commit_of,
    download,
    split_revision,
)
from impress_learn.streams.data_dir import named_or_cache

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
_STEP = "num_batches_tracked"
"""What BatchNorm counts in training; it decides on nothing, and files often lack it."""


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


def load_weights(source: str, arch: str, there: PretrainedRecord | None = None) -> Weights:
    """The weights that a new bank is to stand on: a file, `timm:TAG` of its network, or `hf-hub:OWNER/NAME`; the last
    two of the newest revision, or of the one after an `@`.

    They are copied to the cache, where the bank will look for them.

    Args:
        there: those of a bank that is resumed. A source without revision is the same again, whatever is newest now.

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
        repository = check_repository(name) if family == "hf-hub" else _timm_repository(name)
        source = f"{family}:{name}"
        if revision is None and there is not None and there.source == source:
            path, revision = _find(there)[0], there.revision
        else:
            path = download(repository, revision)
            revision = commit_of(path)
        weights = replace(_read(path, source), revision=revision)
        if family == "timm":
            weights = _with_timm_settings(name, weights)
    else:
        expected = "expected FILE.safetensors, timm:TAG or hf-hub:OWNER/NAME"
        path = _plain_file(Path(source).expanduser(), expected)
        weights = _read(path, "file:" + re.sub(r"[^\w .,+()-]", "_", path.name))
    _keep(path, weights.record(), linked=weights.revision is not None)
    return weights


def add_weights(path: Path) -> tuple[Path, str]:
    """Copy a file of weights to the cache, where the banks that stand on them look: where it lies, and its identity.

    Raises:
        UsageError: it is not there, or of a kind that could hold code.
        DataError: it cannot be read.
        StorageError: it cannot be copied.
    """
    weights = _read(_plain_file(path, "expected FILE.safetensors"), f"file:{path.name}")
    return _keep(path, weights.record()), weights.record().identity


def _plain_file(path: Path, expected: str) -> Path:
    if path.suffix in _PICKLES:
        raise UsageError(
            f"{path}: a file of this kind may run code when it is read; make a safetensors file of it once, by "
            f"`impress weights convert {path} FILE.safetensors`"
        )
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file of weights; {expected}")
    return path


def _keep(path: Path, record: PretrainedRecord, *, linked: bool = False) -> Path:
    """Put the file where banks look for it; one that is there and is damaged gives way.

    Args:
        linked: it is never changed in place, as the cache of huggingface_hub changes none: a hard link will do.
    """
    target = _cached(record)
    if _is_kept(target, record):
        return target
    make_folder(target.parent)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        if not (linked and _link(path, part)):
            shutil.copyfile(path, part)
        part.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return target


def _is_kept(target: Path, record: PretrainedRecord) -> bool:
    try:
        return target.exists() and _wrong_tensor(_read(target, record.source).tensors, record) is None
    except DataError:
        return False


def _link(path: Path, target: Path) -> bool:
    try:
        os.link(path.resolve(), target)
    except OSError:  # another file system, or one without links
        return False
    return True


def find_weights(record: PretrainedRecord) -> Mapping[str, Tensor]:
    """The tensors that a bank stands on, each held to its digest.

    Looked for where `impress weights add` puts them; those of the Hub then in every snapshot that its cache has,
    whatever revision it is of, and at last online. What was found elsewhere is kept for the next time.

    Raises:
        DataError: they are nowhere, with what to do.
        BackboneMismatch: what is there are others, likewise.
    """
    path, tensors = _find(record)
    if path != _cached(record):
        with contextlib.suppress(StorageError):  # they are here: what cannot be kept is looked for again
            _keep(path, record, linked=True)
    return tensors


def _find(record: PretrainedRecord) -> tuple[Path, Mapping[str, Tensor]]:
    """Where they are, and they themselves."""
    others, reason = [], ""
    try:
        for path in _places(record):
            try:
                tensors = _read(path, record.source).tensors
            except DataError:
                others.append(f"{path} cannot be read")
                continue
            if (wrong := _wrong_tensor(tensors, record)) is None:
                return path, tensors
            others.append(f"{path}: tensor {wrong} is not that of the bank's weights")
    except DataError as error:  # of the download
        reason = f": {error}"
    licence = f", {record.licence}" if record.licence else ""
    which = f"{record.address} ({len(record.tensors):,} tensors{licence}, id {record.identity[:16]})"
    if others:
        more = f", and {len(others) - 1} more likewise" if len(others) > 1 else ""
        raise BackboneMismatch(
            f"the bank stands on {which}, and what is here are others, or damaged ({others[0]}{more}){reason}.\n"
            + _what_to_do(record)
        )
    raise DataError(f"the bank stands on weights that are not here: {which}{reason}.\n" + _what_to_do(record))


def _places(record: PretrainedRecord) -> Iterator[Path]:
    """Where they may lie, one after the other; the last is downloaded first."""
    kept = _cached(record)
    if kept.exists():
        yield kept
    if (repository := _repository(record)) is None:
        return
    yield from (seen := list(cached_files(repository, record.revision)))
    if (path := download(repository, record.revision)).resolve() not in {one.resolve() for one in seen}:
        yield path


def _repository(record: PretrainedRecord) -> str | None:
    """The repository of the Hub that they are of; None for a file's."""
    family, _, name = record.source.partition(":")
    if family == "file":
        return None
    return name if family == "hf-hub" else _timm_repository(name)


def _what_to_do(record: PretrainedRecord) -> str:
    if (repository := _repository(record)) is None:
        origin = f", from {record.origin}," if record.origin else ""
        return f"Get that file{origin} and give it once: impress weights add FILE.safetensors"
    where = f"https://huggingface.co/{repository}/"
    where += f"tree/{record.revision}" if record.revision else "commits/main, of the time when the bank was made,"
    return f"Get {HUB_FILE} from {where} and give it once: impress weights add {HUB_FILE}"


def _wrong_tensor(tensors: Mapping[str, Tensor], record: PretrainedRecord) -> str | None:
    """The name of the first tensor that is missing or another one."""
    for name, digest in record.tensors.items():
        if (found := tensors.get(name)) is None or tensor_digest(found) != digest:
            return name
    return None


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


def _timm_repository(full: str) -> str:
    import timm

    config = timm.get_pretrained_cfg(full)
    return str(getattr(config, "hf_hub_id", None) or f"timm/{full}")
