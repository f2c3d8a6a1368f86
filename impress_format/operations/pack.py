"""Loose tasks and packs -> new packs (docs/format.md, Packs)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.disk.files import make_folder, remove_abandoned, write_atomically
from impress_format.errors import FormatError, StorageError
from impress_format.limits import MAX_PACKED, MIB
from impress_format.tasks.file import take_apart
from impress_format.tasks.pack import DIGEST, Pack
from impress_format.tasks.pack_seal import check_seal, seal_pack
from impress_format.tasks.seal import digest_of_task
from impress_format.tasks.sizes import bytes_on_disk
from impress_format.tasks.store import PACKS
from impress_format.tasks.text import TaskText, read_own
from impress_format.versions import require_version

_FULL = 256 * MIB
"""Bytes of text or of parts from which on another pack is begun: what is written is held in memory."""

_Shape = tuple[bool, tuple[tuple[str, str, tuple[int, ...]], ...]]
"""Whether the files of tasks have the short form; name, type and shape of each of their parts."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What packing gave: tasks in packs and in files of their own, and bytes on disk before and after."""

    tasks: int
    packs: int
    loose: int
    bytes_before: int
    bytes: int


@dataclass
class _Rows:
    """Tasks of one shape, in columns that are still in pieces."""

    names: list[bytes] = field(default_factory=list)
    texts: list[TaskText] = field(default_factory=list)
    digests: list[npt.NDArray[np.generic]] = field(default_factory=list)
    parts: dict[str, list[npt.NDArray[np.generic]]] = field(default_factory=dict)


def pack_tasks(bank: Bank) -> Packed:
    """Put all tasks of a bank into packs, one for each shape and size of their parts, and form of their files. Nothing
    else changes.

    A process killed at any moment leaves every task where it is found, and what was removed removed.

    Raises:
        BankMismatch: a bank of format version 1 has no packs.
        FormatError: a task or a pack is damaged; nothing is changed.
        StorageError: the disk said no; what was there before is kept.
    """
    require_version(bank.path, bank.manifest.format_version, "which has no packs")
    store = bank.tasks
    with store.changing():
        make_folder(bank.path / PACKS)
        remove_abandoned(bank.path / PACKS)
        present = store.snapshot()
        old, loose = present.packs, present.loose
        before = bytes_on_disk(store)
        groups: dict[_Shape, _Rows] = {}
        _add_packed(groups, old, hidden=set(present.hidden))
        packable = _add_loose(groups, bank, loose)
        sealed = (pack for (short, _), rows in groups.items() for pack in _seal(rows, short=short))
        new = [_write(bank.path / PACKS, *pack) for pack in sealed]
        # In this order (store.py): at every moment each task is found, and what was removed is not.
        _delete(pack.path for pack in old if pack.path not in new)
        _delete(store.removed_path(name) for name in present.removed)
        _delete(store.loose_path(name) for name in packable)
        return Packed(
            tasks=sum(len(rows.names) for rows in groups.values()),
            packs=len(new),
            loose=len(loose) - len(packable),
            bytes_before=before,
            bytes=bytes_on_disk(store),
        )


def _add_packed(groups: dict[_Shape, _Rows], packs: Sequence[Pack], hidden: set[str]) -> None:
    taken = {name.encode() for name in hidden}
    for pack in packs:
        check_seal(pack)
        kept = []
        shape = _shape({name: part[0] for name, part in pack.parts.items()}, short=pack.record.short)
        rows = groups.setdefault(shape, _Rows())
        for number, (own, text) in enumerate(zip(pack.owns(), pack.texts(), strict=True)):
            name = own[0].encode()
            if name not in taken:
                taken.add(name)
                kept.append(number)
                rows.names.append(name)
                rows.texts.append(TaskText(text, pack.shared_bytes(number)))
        chosen = np.array(kept, dtype=np.intp)
        rows.digests.append(pack.columns[DIGEST][chosen])
        for part, column in pack.parts.items():
            rows.parts.setdefault(part, []).append(column[chosen])


def _add_loose(groups: dict[_Shape, _Rows], bank: Bank, names: Sequence[str]) -> set[str]:
    """Add what `take_apart` can give back; names of these."""
    packable = set()
    for name in names:
        stored = bank.tasks.read(name)
        if stored is None:
            continue  # removed by a release that held no lock
        path, content, _ = stored
        if (apart := take_apart(path, content)) is None:
            continue
        if (own_name := read_own(apart.text.own)[0]) != name:
            raise FormatError(path, f"holds task {own_name!r}, its file name says {name!r}")
        rows = groups.setdefault(_shape(apart.parts, short=apart.short), _Rows())
        rows.names.append(name.encode())
        rows.texts.append(apart.text)
        rows.digests.append(np.frombuffer(digest_of_task(content), dtype=np.uint8)[np.newaxis])
        for part, tensor in apart.parts.items():
            rows.parts.setdefault(part, []).append(tensor[np.newaxis])
        packable.add(name)
    return packable


def _seal(rows: _Rows, *, short: bool) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the packs of these tasks."""
    order = sorted(range(len(rows.names)), key=rows.names.__getitem__)
    digests = np.concatenate(rows.digests).astype(np.uint8, copy=False)
    parts = {name: np.concatenate(pieces) for name, pieces in rows.parts.items()}
    size = max(sum(part[:1].nbytes for part in parts.values()), max(map(_text_bytes, rows.texts), default=1))
    at_once = min(MAX_PACKED, max(1, _FULL // max(size, 1)))
    numbers = iter(order)
    while chosen := list(islice(numbers, at_once)):
        yield seal_pack(
            [rows.texts[number] for number in chosen],
            digests[chosen],
            {name: part[chosen] for name, part in parts.items()},
            short=short,
        )


def _write(folder: Path, name: str, content: bytes) -> Path:
    with contextlib.suppress(FileExistsError):  # the name is that of these very bytes
        write_atomically(folder / name, content, replace=False)
    return folder / name


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot remove {path}: {error.strerror or error}. All tasks are there; run it again"
            ) from error


def _shape(parts: Mapping[str, npt.NDArray[np.generic]], *, short: bool) -> _Shape:
    return short, tuple(sorted((name, part.dtype.str, part.shape) for name, part in parts.items()))


def _text_bytes(text: TaskText) -> int:
    return len(text.own) + len(text.shared_bytes)
