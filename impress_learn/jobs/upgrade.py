"""A bank of an older release becomes one of the current version, and cuts images to size; nothing is trained."""

from __future__ import annotations

from pathlib import Path

import msgspec

from impress_format.bank import Bank, open_bank
from impress_format.disk.files import remove_abandoned
from impress_format.disk.locks import exclusive
from impress_format.errors import BankMismatch
from impress_format.operations.upgrade import upgrade_files
from impress_format.records.manifest import BankManifest
from impress_format.versions import FORMAT_VERSION
from impress_learn.progress import SILENT, Progress
from impress_learn.streams.classes import fixed_data_set
from impress_learn.streams.reference import parse_reference
from impress_learn.streams.stream import DataSet
from impress_learn.streams.table import has_natural_size
from impress_learn.streams.view import default_view


def upgrade_bank(path: Path | str, progress: Progress = SILENT) -> int:
    """Put a bank into the current format version; every mask, task and digest of weights stays what it is.

    A bank of version 2 that squeezes images which are not square cuts out their centre from then on, unless it may
    have learned from squeezed ones: that is told, and stays. Interrupted, the bank is whole, and the same call goes on.

    Returns:
        The number of files that were written anew: 0 if there was nothing to do.

    Raises:
        BankMismatch: nothing in the bank says what its images are.
        FormatError: a file is damaged.
        BackboneMismatch: the backbone comes out otherwise here.
        StorageError: the disk said no, or another process is working on the bank.
    """
    bank = open_bank(path)
    with exclusive(bank.path, wait=False):
        remove_abandoned(bank.path)
        bank = open_bank(path)  # as the process left it that held the lock
        current = bank.manifest.format_version == FORMAT_VERSION
        manifest = _cropping(bank, progress) if current else _current_manifest(bank, _source_of(bank))
        return upgrade_files(bank, manifest)


def _cropping(bank: Bank, progress: Progress) -> BankManifest:
    """The manifest with a view that cuts images to size, where all the bank learned from had that size by nature."""
    manifest = bank.manifest
    view = manifest.preprocess
    if view is None or view.crop is not None:
        return manifest
    squeezed = next((task for task in _references(bank) if not has_natural_size(task)), None)
    if squeezed is not None:
        progress.remark(
            f"{bank.path} squeezes images that are not square, and learned so from {squeezed}: this stays; to have "
            "their centre cut out instead, create the bank anew"
        )
        return manifest
    return msgspec.structs.replace(manifest, preprocess=msgspec.structs.replace(view, crop=1.0))


def _current_manifest(bank: Bank, data_set: DataSet) -> BankManifest:
    """What the manifest of version 1 says, and what its data set tells.

    The command that created the bank drew the backbone from its own seed; the releases it ran with are not known, so
    the logits are what the network computes today.
    """
    from impress_learn.network.build import rebuild_backbone
    from impress_learn.network.probe import probe_logits

    logits = probe_logits(rebuild_backbone(bank.backbone))
    return msgspec.structs.replace(
        bank.manifest,
        format_version=FORMAT_VERSION,
        backbone=msgspec.structs.replace(bank.backbone, logits=logits),
        seed=bank.backbone.seed,
        preprocess=default_view(data_set),
        class_names=_fixed_names(bank),
    )


def _fixed_names(bank: Bank) -> tuple[str, ...] | None:
    """Class names that all tasks of the bank share; None where a folder names them: it may have others by now."""
    references = [plan.task for plan in bank.manifest.masks if plan.task is not None]
    references += [summary.task for summary in bank.summarise_tasks()]
    fixed = [fixed_data_set(task) for task in dict.fromkeys(references)]
    first, *others = dict.fromkeys(None if data_set is None else data_set.class_names for data_set in fixed)
    return None if others or first is None or len(first) != bank.backbone.classes else first


def _source_of(bank: Bank) -> DataSet:
    """The data set that a bank's masks, or else its tasks, were trained on."""
    references = _references(bank)
    if not references:
        raise BankMismatch(
            f"{bank.path} has random masks only and no task, so that nothing says what its images are: create it anew"
        )
    return parse_reference(references[0]).data_set


def _references(bank: Bank) -> list[str]:
    """What a bank has learned from: its masks' tasks, those its projection was made of, and the stored ones."""
    masks = [plan.task for plan in bank.manifest.masks if plan.task is not None]
    projected = bank.projection_record.tasks if bank.has_projection else ()
    return [*masks, *projected, *(summary.task for summary in bank.summarise_tasks())]
