"""Every check there is on a bank, without torch."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from impress_format.bank import Bank, open_bank
from impress_format.bank_files.folder import MASKS
from impress_format.bank_files.table import files_of
from impress_format.disk.files import is_there, list_folder, read_limited
from impress_format.errors import FormatError, ImpressError, StorageError
from impress_format.masks.mask_file import check_mask
from impress_format.tasks.pack import open_pack
from impress_format.tasks.pack_check import check_pack
from impress_format.tasks.snapshot import natural_order
from impress_format.tasks.store import PACKS, TASKS
from impress_format.weights import backbone_digest


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file, its path relative to the bank."""

    file: str
    error: str


@dataclass(frozen=True)
class Unchecked:
    """A file that could not be checked to the end, because another one, `cause`, has a problem. It may be intact."""

    file: str
    cause: str


@dataclass(frozen=True)
class Verification:
    """The outcome: how many files were looked at, every problem, each once, and what could not be checked for it."""

    checked: int
    problems: tuple[Problem, ...]
    unchecked: tuple[Unchecked, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_bank(path: Path | str) -> Verification:
    """Check every byte of a bank: checksums, sizes, shapes, counts, alpha values, and the backbone's digest.

    A task over a damaged mask is not damaged: what can be checked of it is, and it is listed as unchecked.

    Raises:
        BankNotFound: there is no bank at `path`.
        StorageError: its folder may not be read. Anything wrong inside a bank is reported, not raised.
    """
    path = Path(path)
    try:
        bank = open_bank(path)
    except FormatError as error:
        return Verification(checked=1, problems=(Problem(error.path.name, error.problem),))
    while True:
        try:
            return _verify(bank)
        except _GoneMeanwhile:  # another process packed or removed a task: what there is now is checked
            continue


class _GoneMeanwhile(Exception):
    """A file that tasks were in, or marked as removed by, is not there any more."""


def _verify(bank: Bank) -> Verification:
    problems: list[Problem] = []
    unchecked: list[Unchecked] = []
    checked = 0
    for path, check in _checks(bank):
        checked += 1
        file = _relative(bank, path)
        try:
            check()
        except ImpressError as error:
            if bank.tasks.knows(path) and not _may_be_there(path):
                raise _GoneMeanwhile from error
            culprit = _relative(bank, error.path) if isinstance(error, FormatError) else file
            if culprit != file and any(problem.file == culprit for problem in problems):
                unchecked.append(Unchecked(file, culprit))
            else:
                problems.append(Problem(file, error.problem if isinstance(error, FormatError) else str(error)))
    return Verification(checked=checked, problems=tuple(problems), unchecked=tuple(unchecked))


def _may_be_there(path: Path) -> bool:
    try:
        return is_there(path)
    except StorageError:
        return True


def _checks(bank: Bank) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Each file of the bank with the call that raises if it is not as it should be; masks before what weighs them."""
    yield bank.manifest_path, lambda: _check_backbone(bank)
    folders = (MASKS, TASKS) if bank.manifest.format_version == 1 else (MASKS, TASKS, PACKS)
    for folder in folders:
        try:
            list_folder(bank.path / folder)
        except ImpressError as error:
            yield bank.path / folder, lambda error=error: _raise(error)  # type: ignore[misc]
            return
    for file in files_of(bank.files):  # first: masks and tasks are held to some of them
        yield bank.files.path(file), lambda file=file: bank.files.read(file)  # type: ignore[misc]
    for index in range(len(bank.manifest.masks)):
        yield bank.mask_path(index), lambda index=index: _check_mask(bank, index)  # type: ignore[misc]
    loose, removed = bank.tasks.listed()
    for name in sorted(loose, key=natural_order):
        yield bank.task_path(name), lambda name=name: bank.read_task(name)  # type: ignore[misc]
    seen: dict[str, bytes] = {}
    hidden = {*loose, *removed}
    for path in bank.tasks.pack_paths():
        yield path, lambda path=path: _check_pack(bank, path, seen, hidden)  # type: ignore[misc]
    for name in sorted(removed):
        path = bank.tasks.removed_path(name)
        yield path, lambda path=path: read_limited(path, 0)  # type: ignore[misc]
    for stray in _strays(bank):
        yield stray, lambda stray=stray: _refuse(stray)  # type: ignore[misc]


def _check_backbone(bank: Bank) -> None:
    spec = bank.backbone
    if spec.pretrained is not None:  # the seed gives none of its weights; who rebuilds it holds each to its digest
        return
    found = backbone_digest(spec.seed, spec.init, spec.layers)
    if found != spec.digest:
        raise FormatError(bank.manifest_path, f"expects backbone {spec.digest}, seed and layers give {found}")


def _check_mask(bank: Bank, index: int) -> None:
    check_mask(bank.mask_path(index), bank.manifest, index, bank.identity)


def _check_pack(bank: Bank, path: Path, seen: dict[str, bytes], hidden: set[str]) -> None:
    check_pack(open_pack(path), bank.manifest, bank.identity, seen=seen, hidden=hidden)


def _strays(bank: Bank) -> Iterator[Path]:
    """What belongs to no bank. Hidden files (lock, unfinished writes) are no part of it and pass.

    A folder that does not belong is one stray, whatever is in it: it may be deeper than paths can be long.
    """
    known = {bank.manifest_path, *(bank.mask_path(index) for index in range(len(bank.manifest.masks)))}
    folders = [bank.path / MASKS, bank.path / TASKS]
    if bank.manifest.format_version > 1:
        folders.append(bank.path / PACKS)
    known |= {bank.files.path(file) for file in files_of(bank.files)}
    for folder in (bank.path, *filter(_is_folder, folders)):
        for name in sorted(list_folder(folder)):
            path = folder / name
            if path in known or name.startswith(".") or bank.tasks.knows(path):
                continue
            if not (path in folders and _is_folder(path)):
                yield path


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _refuse(path: Path) -> None:
    raise FormatError(path, "does not belong in a bank")


def _raise(error: ImpressError) -> None:
    raise error


def _relative(bank: Bank, path: Path) -> str:
    """The path within the bank, fit to print: a file name may hold line breaks, escapes of terminals, or no text."""
    name = path.relative_to(bank.path).as_posix()
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in name)
