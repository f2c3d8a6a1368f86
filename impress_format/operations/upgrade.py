"""A bank of an older format version -> the current one, file by file, without training (docs/format.md, Versions)."""

from __future__ import annotations

from impress_format.bank import Bank, open_bank
from impress_format.bank_files.table import files_of
from impress_format.container.header import read_tensors
from impress_format.disk.files import write_atomically
from impress_format.errors import FormatError
from impress_format.manifest import seal_manifest
from impress_format.masks import mask_file
from impress_format.operations.verify import verify_bank
from impress_format.records.manifest import BankManifest
from impress_format.tasks.file import is_of_version, seal_task
from impress_format.tasks.seal import record_of_task
from impress_format.tasks.short import parse_task
from impress_format.versions import FORMAT_VERSION


def upgrade_files(bank: Bank, manifest: BankManifest) -> int:
    """Put the files of a bank into the version of `manifest`, which says the same as the bank's own and more.

    The manifest goes first: a newer bank may hold older files, so that a process killed at any moment leaves a bank
    that is whole, and the same call takes up where it stopped.

    Returns:
        The number of files that were written.

    Raises:
        FormatError: a file is damaged; nothing is changed.
        StorageError: the disk said no.
    """
    for problem in verify_bank(bank.path).problems:
        if problem.error != "is missing":  # a mask that is still to be trained
            raise FormatError(bank.path / problem.file, problem.error)
    written = 0
    if bank.manifest != manifest:
        write_atomically(bank.manifest_path, seal_manifest(manifest), replace=True)
        written += 1
    bank = open_bank(bank.path)
    missing = set(bank.missing_masks())
    for index in range(len(bank.manifest.masks)):
        if index in missing:
            continue
        if bank.read_mask_record(index).format_version != FORMAT_VERSION:
            content = mask_file.reseal_mask(bank.mask_path(index), bank.manifest, index)
            write_atomically(bank.mask_path(index), content, replace=True)
            written += 1
    written += sum(map(bank.files.reseal, files_of(bank.files)))
    return written + _upgrade_tasks(bank)


def _upgrade_tasks(bank: Bank) -> int:
    written = 0
    with bank.tasks.changing():
        for name in bank.tasks.snapshot().loose:
            stored = bank.tasks.read(name)
            if stored is None or is_of_version(*stored[:2], FORMAT_VERSION):
                continue
            path, content, _ = stored
            bank.read_task(name)  # checks all of it
            header = parse_task(path, content)
            record = record_of_task(path, content, header)
            content = seal_task(record, read_tensors(content, header), bank.manifest)
            write_atomically(bank.task_path(name), content, replace=True)
            written += 1
    return written
