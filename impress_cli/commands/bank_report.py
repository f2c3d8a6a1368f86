"""What a bank is, for `impress bank create`, `extend` and `show`: as text, or as JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from impress_cli import render

if TYPE_CHECKING:
    from impress_format.bank import Bank
    from impress_format.records.masks import MaskRecord


def report_bank(bank: Bank, started: float, *, json: bool) -> None:
    """Print what a bank is, as text or as JSON, with the seconds since `started`."""
    from impress_format.disk.files import file_size

    missing = set(bank.missing_masks())
    records = {index: bank.read_mask_record(index) for index in range(len(bank.manifest.masks)) if index not in missing}
    sizes = {index: file_size(bank.mask_path(index)) for index in records}
    if json:
        render.print_json(_document(bank, records, sizes, time.perf_counter() - started))
    else:
        _print_text(bank, records, sizes)


def _document(
    bank: Bank, records: Mapping[int, MaskRecord], sizes: Mapping[int, int], seconds: float
) -> dict[str, object]:
    from msgspec import to_builtins

    spec = bank.backbone
    masks = [
        {
            "index": index,
            "kind": plan.kind,
            "type": plan.type,
            "task": plan.task,
            "seed": plan.seed,
            "density": plan.density,
            "allocation": plan.allocation,
            "bytes": sizes.get(index),
            "accuracy": records[index].accuracy if index in records else None,
            "images": "held-out" if plan.fit and plan.fit.holdout else "test",
        }
        for index, plan in enumerate(bank.manifest.masks)
    ]
    backbone = {
        "arch": spec.arch,
        "init": spec.init,
        "seed": spec.seed,
        "digest": spec.digest,
        "weights": spec.weights,
        "maskable_share": spec.maskable_share,
        "layers": len(spec.masked_layers),
        "pretrained": None
        if (theirs := spec.pretrained) is None
        else {name: getattr(theirs, name) for name in ("source", "revision", "licence", "origin", "identity")},
    }
    made = {
        name: to_builtins(getattr(bank.manifest, name))
        for name in ("format_version", "made_with", "preprocess", "class_names")
    }
    made["projection"] = _projection_of(bank)
    return {"bank": str(bank.path), "backbone": backbone, "masks": masks, "seconds": seconds, **made}


def _print_text(bank: Bank, records: Mapping[int, MaskRecord], sizes: Mapping[int, int]) -> None:
    spec = bank.backbone
    rows = [
        (
            str(index),
            plan.task or "—",
            plan.sort,
            f"{plan.density:g}",
            render.size(sizes[index]) if index in records else "not trained yet",
            render.percent(records[index].accuracy) if index in records else "—",
        )
        for index, plan in enumerate(bank.manifest.masks)
    ]
    frozen = f"{spec.weights:,} frozen weights in {render.count(len(spec.masked_layers), 'layer')}, seed {spec.seed}"
    if spec.maskable_share < 1:
        frozen += f" ({render.percent(spec.maskable_share)} of the network's: the others carry no mask)"
    if spec.pretrained is not None:
        licence = f", {spec.pretrained.licence}" if spec.pretrained.licence else ""
        frozen = f"{frozen}, on {spec.pretrained.address} (id {spec.pretrained.identity[:12]}{licence})"
    held_out = any(plan.fit and plan.fit.holdout for plan in bank.manifest.masks)
    if bank.manifest.mirrored:
        frozen += ", asked for each image with its mirror image"
    title = f"{bank.path}: {spec.arch}, {frozen}, digest {spec.digest[:12]}"
    stored = f"{render.count(len(bank.task_names()), 'task')} stored"
    if rows:
        render.print_table(
            title,
            ("mask", "trained on", "kind", "density", "on disk", "accuracy"),
            rows,
            text_columns=3,
            footer=f"{stored} over these masks"
            + ("; accuracy of masks with --holdout is on held-out training images" if held_out else ""),
        )
    else:
        render.print_line(title)
    if bank.has_projection:
        render.print_line(_about_projection(bank))
    if not rows:
        render.print_line(stored)


def _projection_of(bank: Bank) -> dict[str, object] | None:
    """What heads stand on; None if the bank has none."""
    from impress_format.bank_files.projection import PROJECTION
    from impress_format.disk.files import file_size

    if not bank.has_projection:
        return None
    record = bank.projection_record
    made = {name: getattr(record, name) for name in ("tasks", "holdout", "epochs", "layers", "bits")}
    return {"directions": bank.directions, "bytes": file_size(bank.files.path(PROJECTION)), **made}


def _about_projection(bank: Bank) -> str:
    from impress_format.bank_files.projection import PROJECTION
    from impress_format.disk.files import file_size

    record = bank.projection_record
    tasks = ", ".join(record.tasks[:2]) + (f" and {len(record.tasks) - 2:,} more" if len(record.tasks) > 2 else "")
    weight_delta = (
        f"; the network was moved towards them in {render.count(record.epochs, 'epoch')}" if record.epochs else ""
    )
    return (
        f"Heads read {bank.directions} directions of its features, made of {tasks}{weight_delta}: "
        f"{render.size(file_size(bank.files.path(PROJECTION)))}"
    )
