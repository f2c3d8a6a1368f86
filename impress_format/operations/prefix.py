"""A bank of the first masks of another: what depends on these alone is the same in both."""

from __future__ import annotations

from pathlib import Path

import msgspec

from impress_format.bank import Bank, open_bank
from impress_format.bank_files.folder import MANIFEST, MASKS
from impress_format.bank_files.table import files_of
from impress_format.disk.files import make_folder, write_atomically
from impress_format.disk.locks import exclusive
from impress_format.errors import BankMismatch, UsageError
from impress_format.manifest import seal_manifest
from impress_format.tasks.store import TASKS


def first_masks(bank: Bank, count: int, path: Path) -> Bank:
    """Write a bank of the first `count` masks of another, without its tasks; or open the one that is there.

    Args:
        bank: with these masks trained.
        path: the new bank's folder.

    Raises:
        UsageError: the bank has fewer masks.
        BankMismatch: another bank is at `path`.
        FormatError, StorageError.
    """
    if not 1 <= count <= len(bank.manifest.masks):
        raise UsageError(f"the first masks of {bank.path}: expected 1 to {len(bank.manifest.masks)}, found {count}")
    plans = bank.manifest.masks[:count]
    named = {plan.task for plan in plans}
    classes = {task: names for task, names in dict(bank.manifest.mask_classes or {}).items() if task in named}
    manifest = msgspec.structs.replace(bank.manifest, masks=plans, mask_classes=classes or msgspec.UNSET)
    sealed = seal_manifest(manifest)
    for folder in (MASKS, TASKS):
        make_folder(path / folder)
    with exclusive(path, wait=True):
        for file in files_of(bank.files):
            _copy(bank.path / file.name, path / file.name)
        for index in range(count):
            source = bank.mask_path(index)
            _copy(source, path / MASKS / source.name)
        try:
            write_atomically(path / MANIFEST, sealed, replace=False)  # last: what has it is whole
        except FileExistsError as error:
            if (path / MANIFEST).read_bytes() != sealed:
                raise BankMismatch(f"{path} is another bank than the first {count} masks of {bank.path}") from error
    return open_bank(path)


def _copy(source: Path, target: Path) -> None:
    if source.exists() and not target.exists():
        write_atomically(target, source.read_bytes(), replace=True)
