"""Planning a bank: a new one, one that is resumed, one with more masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from impress_format.bank import Bank, open_bank
from impress_format.bank_files.folder import MANIFEST, MASKS
from impress_format.bank_files.table import BANK_FILES
from impress_format.disk.files import is_there, list_folder, make_folder, remove_abandoned, write_atomically
from impress_format.errors import BankMismatch, BankNotFound
from impress_format.manifest import check_manifest, seal_manifest
from impress_format.parts.class_names import differing_names
from impress_format.records.manifest import BankManifest
from impress_format.records.masks import MaskPlan
from impress_format.tasks.store import PACKS, TASKS


def write_plan(path: Path | str, planned: BankManifest) -> Bank:
    """Write the manifest of a new bank, or open the bank that an interrupted run of the same settings left.

    A plan of which nothing was trained yet gives way to other settings. Call it with the folder's lock held
    (`exclusive`), so that this is not the plan of a run that has just begun.

    Raises:
        BankNotFound: `path` is a file or a folder with something else in it.
        BankMismatch: a bank made with other settings is there.
        StorageError: the folder cannot be written.
    """
    path = Path(path)
    check_manifest(path / MANIFEST, planned)
    check_can_create(path)
    make_folder(path / MASKS)
    make_folder(path / TASKS)
    try:
        # Never over a manifest that is there: of two processes that create one bank, the second compares.
        write_atomically(path / MANIFEST, seal_manifest(planned), replace=False)
    except FileExistsError:
        remove_abandoned(path)
        bank = open_bank(path)
        if is_empty(bank) and bank.manifest != msgspec.structs.replace(planned, digest=bank.manifest.digest):
            for file in BANK_FILES:
                if not file.binds:
                    bank.files.path(file).unlink(missing_ok=True)  # of the plan that gives way
            write_atomically(path / MANIFEST, seal_manifest(planned), replace=True)
        else:
            _require_same(bank, planned)
    return open_bank(path)


def check_can_create(path: Path) -> None:
    """Refuse a path that is a file, or a folder that holds something other than a bank.

    Raises:
        BankNotFound: it is one of these.
        StorageError: the folder may not be read.
    """
    if is_there(path) and not path.is_dir():
        raise BankNotFound(f"{path} is a file: a bank is a folder, by habit NAME.impress")
    foreign = [name for name in list_folder(path) if name not in {MASKS, TASKS, PACKS} and name[0] != "."]
    if foreign and MANIFEST not in foreign:
        raise BankNotFound(f"{path} holds other files ({foreign[0]}): choose an empty or a new folder")


def is_empty(bank: Bank) -> bool:
    """Whether a run was stopped before it trained anything: its plan binds nobody. A projection may be hours of it."""
    no_mask = len(bank.missing_masks()) == len(bank.manifest.masks)
    kept = any(file.binds and bank.files.has(file) for file in BANK_FILES)
    return no_mask and not kept and not bank.task_names()


def extend_plan(
    bank: Bank, masks: Sequence[MaskPlan], mask_classes: Mapping[str, tuple[str, ...]] | None = None
) -> Bank:
    """Plan more masks after those there are; every alpha stays valid. Masks planned already are not planned twice.

    Equal training gives equal bits whatever the kind says: one mask of a task may later be the first of several.

    Args:
        mask_classes: class names of these masks' tasks by reference, where the reference does not tell.

    Raises:
        BankMismatch: the bank has a mask of one of these tasks, trained on other classes.
    """
    if not (added := still_to_plan(bank, masks)):
        return bank
    own, shared = dict(bank.manifest.mask_classes or {}), bank.manifest.class_names or ()
    learned = {plan.task for plan in bank.manifest.masks}
    for task, names in (mask_classes or {}).items():
        existing = own.get(task, shared)
        if task in learned and existing not in ((), names):  # older releases did not keep them
            raise _other_classes(bank, task, existing, names)
        if names != shared:
            own[task] = names
    manifest = msgspec.structs.replace(
        bank.manifest, masks=bank.manifest.masks + added, mask_classes=own or msgspec.UNSET
    )
    check_manifest(bank.manifest_path, manifest)
    write_atomically(bank.manifest_path, seal_manifest(manifest), replace=True)
    return open_bank(bank.path)


def still_to_plan(bank: Bank, masks: Sequence[MaskPlan]) -> tuple[MaskPlan, ...]:
    """Those of the masks that the bank does not plan yet."""
    known = set(map(_training, bank.manifest.masks))
    return tuple(plan for plan in masks if _training(plan) not in known)


def _training(plan: MaskPlan) -> tuple[object, ...]:
    # In how many threads is no other mask: who extends in others goes on with what was planned before.
    fit = None if plan.fit is None else msgspec.structs.replace(plan.fit, threads=1)
    return plan.task, plan.density, plan.allocation, plan.type, plan.seed, fit


def _require_same(bank: Bank, planned: BankManifest) -> None:
    found = bank.manifest
    existing, asked = _all_class_names(found), _all_class_names(planned)
    for task, names in existing.items():  # those that an older release did not keep are not held against anybody
        if names != asked.get(task, names):
            raise _other_classes(bank, task, names, asked[task])
    differences = []
    for name in ("arch", "init", "seed", "input_shape", "classes", "digest"):
        existing, asked = getattr(found.backbone, name), getattr(planned.backbone, name)
        if existing != asked:
            differences.append(f"backbone {name} {existing} there, {asked} asked")
    if found.mirrored != planned.mirrored:
        differences.append("it asks for mirror images too" if found.mirrored else "it asks for no mirror images")
    if planned.instructions is not None and found.instructions is None:
        differences.append("its masks are those of one machine, not `reproducible`")
    if not differences and found.masks != planned.masks:
        differences.append(_first_difference(found.masks, planned.masks))
    if differences:
        raise BankMismatch(
            f"{bank.path} exists with other settings ({differences[0]}): give the same command to resume it, "
            "`impress bank extend` to add masks, or another path"
        )


def _all_class_names(manifest: BankManifest) -> dict[str, tuple[str, ...]]:
    shared = {} if manifest.class_names is None else {"its tasks": manifest.class_names}
    return {**shared, **(manifest.mask_classes or {})}


def _other_classes(bank: Bank, task: str, existing: Sequence[str], asked: Sequence[str]) -> BankMismatch:
    return BankMismatch(
        f"{bank.path}: {task} had other classes when the bank was made ({differing_names(existing, asked)}): give the "
        "folder its classes back, or create another bank"
    )


def _first_difference(existing: tuple[MaskPlan, ...], asked: tuple[MaskPlan, ...]) -> str:
    for index, (old, new) in enumerate(zip(existing, asked, strict=False)):
        if old != new:
            for name in ("kind", "task", "density", "allocation", "type"):
                if getattr(old, name) != getattr(new, name):
                    return f"mask {index}: {name} {getattr(old, name)} there, {getattr(new, name)} asked"
            return f"mask {index}: seed or training settings {old.fit} there, {new.fit} asked"
    return f"{len(existing)} masks there, {len(asked)} asked"
