"""bank.json: the backbone, and the masks the bank has or will have (docs/format.md)."""

from __future__ import annotations

from math import prod
from pathlib import Path

import msgspec

from impress_format.container.sealed_file import seal_json, unseal_json
from impress_format.disk.files import read_limited
from impress_format.errors import FormatError
from impress_format.limits import MAX_LAYERS, MAX_MANIFEST_BYTES, MAX_MASKS, MAX_PIXELS, MAX_SIDE, MAX_WEIGHTS
from impress_format.records.fields import FileVersion
from impress_format.records.manifest import BankManifest, ManifestV1
from impress_format.records.network import BackboneSpec
from impress_format.versions import check_version


def read_manifest(path: Path) -> BankManifest:
    """The manifest of a bank, checked.

    Raises:
        FormatError: it is damaged.
        UnsupportedVersion: made by a newer release.
    """
    content = read_limited(path, MAX_MANIFEST_BYTES)
    if check_version(path, content) == 1:
        manifest = _from_v1(unseal_json(path, content, ManifestV1))
    else:
        manifest = unseal_json(path, content, BankManifest)
    check_manifest(path, manifest)
    return manifest


def seal_manifest(manifest: BankManifest) -> bytes:
    """The file of a manifest, in its own format version: a bank keeps the one that it was created in.

    Raises:
        UsageError: a value out of its range, or a file too large: no reader would take it.
    """
    if manifest.format_version == 1:
        return seal_json(ManifestV1(**{name: getattr(manifest, name) for name in ManifestV1.__struct_fields__}))
    return seal_json(manifest)


def file_version(manifest: BankManifest) -> FileVersion:
    """The version that files of this bank are written in."""
    return 2 if manifest.format_version == 2 else 1


def check_file_version(path: Path, version: int, manifest: BankManifest) -> None:
    """Refuse a file of a newer version than the bank's: who reads the bank may not know it. An older one may stay.

    Raises:
        FormatError: it is newer.
    """
    if version > manifest.format_version:
        raise FormatError(path, f"has format version {version}, the bank {manifest.format_version}")


def _from_v1(manifest: ManifestV1) -> BankManifest:
    known = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    return BankManifest(**known, made_with=None, seed=None, preprocess=None, class_names=None)


def check_manifest(path: Path, manifest: BankManifest) -> None:
    """Refuse a manifest that no bank can have: limits on shapes, counts and densities, beyond its types.

    Raises:
        FormatError: naming the field.
    """
    _check_making(path, manifest)
    _check_layers(path, manifest.backbone)
    if prod(manifest.backbone.input_shape) > MAX_PIXELS:
        raise FormatError(path, f"has input of shape {manifest.backbone.input_shape}: more than {MAX_PIXELS:,} values")
    if not (0 if manifest.format_version > 1 else 1) <= len(manifest.masks) <= MAX_MASKS:
        raise FormatError(path, f"plans {len(manifest.masks)} masks, expected 1 (0 from version 2 on) to {MAX_MASKS}")
    for index, plan in enumerate(manifest.masks):
        if not 0.0 < plan.density <= 1.0:
            raise FormatError(path, f"masks[{index}].density is {plan.density}, expected a number in (0, 1]")
        if (plan.kind == "random") != (plan.fit is None) or (plan.kind == "random") != (plan.task is None):
            raise FormatError(
                path, f"masks[{index}] is {plan.kind}: a trained mask has a task and a fit, a random none"
            )


def _check_layers(path: Path, backbone: BackboneSpec) -> None:
    """What is drawn, and what of it carries masks."""
    layers = backbone.layers
    if len(layers) > MAX_LAYERS:
        raise FormatError(path, f"has {len(layers):,} layers, expected at most {MAX_LAYERS:,}")
    if not backbone.masked_layers:
        raise FormatError(path, "the backbone has no maskable layer")
    if len({layer.name for layer in layers}) != len(layers):
        raise FormatError(path, "two layers have one name")
    for layer in layers:
        if not layer.shape or any(not 1 <= side <= MAX_SIDE for side in layer.shape):
            raise FormatError(path, f"layer {layer.name} has shape {layer.shape}")
        if layer.masked and len(layer.shape) < 2:
            raise FormatError(path, f"layer {layer.name} has shape {layer.shape}, expected two or more axes")
    if drawn := {layer.name for layer in layers} & set(backbone.zeros):
        raise FormatError(path, f"{min(drawn)} is among the layers that are drawn and among `zeros`")
    if (weights := sum(layer.size for layer in layers)) > MAX_WEIGHTS:
        raise FormatError(path, f"has a backbone of {weights:,} weights, expected at most {MAX_WEIGHTS:,}")


def _check_making(path: Path, manifest: BankManifest) -> None:
    """What version 2 says beyond version 1, against the backbone."""
    backbone, preprocess = manifest.backbone, manifest.preprocess
    if manifest.format_version == 1:
        if backbone.logits is not None:
            raise FormatError(path, "has logits, which format version 1 does not know")
        if backbone.pretrained is not None:
            raise FormatError(path, "has pretrained weights, which format version 1 does not know")
        if backbone.zeros or any(layer.acts_as is not None for layer in backbone.layers):
            raise FormatError(path, "has `zeros` or `acts_as`, which format version 1 does not know")
        if manifest.recogniser:
            raise FormatError(path, "has a recogniser, which format version 1 does not know")
        if not all(plan.is_of_version_1 for plan in manifest.masks):
            raise FormatError(
                path,
                "has a mask that is not binary, of one density in all layers and trained by plain SGD: format "
                "version 1 knows no other",
            )
        return
    if backbone.pretrained is not None and manifest.calibration:
        raise FormatError(path, "has calibration images for a network that keeps the statistics of its own weights")
    if manifest.seed is None or preprocess is None:
        raise FormatError(path, "expected seed and preprocess, found null")
    channels = {"L": 1, "RGB": 3}[preprocess.mode]
    if (channels, *preprocess.size) != backbone.input_shape:
        raise FormatError(
            path, f"preprocess gives images of shape {(channels, *preprocess.size)}, input is {backbone.input_shape}"
        )
    if not len(preprocess.mean) == len(preprocess.std) == channels:
        raise FormatError(path, f"preprocess has {len(preprocess.mean)} means and {len(preprocess.std)} deviations")
    if preprocess.span is not None and not preprocess.span[0] < preprocess.span[1]:
        raise FormatError(path, f"preprocess.span is {list(preprocess.span)}, expected a smaller number first")
    _check_class_names(path, manifest)


def _check_class_names(path: Path, manifest: BankManifest) -> None:
    classes = manifest.backbone.classes
    if manifest.class_names is not None and len(manifest.class_names) != classes:
        raise FormatError(path, f"names {len(manifest.class_names)} classes, the backbone has {classes}")
    if isinstance(manifest.mask_classes, msgspec.UnsetType):
        return
    learned = {plan.task for plan in manifest.masks}
    for task, names in manifest.mask_classes.items():
        if task not in learned:
            raise FormatError(path, f"names classes of {task}, which no mask was trained for")
        if len(names) > classes:
            raise FormatError(path, f"names {len(names)} classes of {task}, the backbone has {classes}")
