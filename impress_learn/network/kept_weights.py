"""Where weights that others trained are kept, and how a bank finds those it stands on again."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from impress_format.disk.files import make_folder
from impress_format.errors import BackboneMismatch, DataError, StorageError
from impress_format.records.network import PretrainedRecord
from impress_learn.network.hub_weights import HUB_FILE, cached_files, download, timm_repository
from impress_learn.network.weights_file import read_weights, tensor_digest
from impress_learn.streams.data_dir import named_or_cache


def keep_weights(path: Path, record: PretrainedRecord, *, linked: bool = False) -> Path:
    """Put a file of weights where banks look for it, and return where; one that is there and is damaged gives way.

    Args:
        path: the file.
        record: what a bank keeps of its weights.
        linked: it is never changed in place, as the cache of huggingface_hub changes none: a hard link will do.

    Raises:
        StorageError: it cannot be copied.
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
        return target.exists() and _wrong_tensor(read_weights(target, record.source).tensors, record) is None
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
    path, tensors = locate_weights(record)
    if path != _cached(record):
        with contextlib.suppress(StorageError):  # they are here: what cannot be kept is looked for again
            keep_weights(path, record, linked=True)
    return tensors


def locate_weights(record: PretrainedRecord) -> tuple[Path, Mapping[str, Tensor]]:
    """As find_weights, and the path that they were found at."""
    others, reason = [], ""
    try:
        for path in _places(record):
            try:
                tensors = read_weights(path, record.source).tensors
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
    return name if family == "hf-hub" else timm_repository(name)


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


def _cached(record: PretrainedRecord) -> Path:
    folder = named_or_cache("IMPRESS_WEIGHTS", "weights")
    if folder is None:
        raise StorageError("this user has no home folder to keep weights in: set IMPRESS_WEIGHTS")
    return folder / f"{record.identity[:32]}.safetensors"
