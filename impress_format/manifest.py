"""bank.json: the backbone, and the masks the bank has or will have (docs/format.md)."""

from __future__ import annotations

from math import prod
from pathlib import Path

from impress_format.container import unseal_json
from impress_format.errors import FormatError
from impress_format.files import read_limited
from impress_format.limits import MAX_LAYERS, MAX_MANIFEST_BYTES, MAX_MASKS, MAX_PIXELS, MAX_SIDE, MAX_WEIGHTS
from impress_format.records import BankManifest
from impress_format.versions import check_version


def read_manifest(path: Path) -> BankManifest:
    """The manifest of a bank, checked.

    Raises:
        FormatError: it is damaged.
        UnsupportedVersion: made by a newer release.
    """
    content = read_limited(path, MAX_MANIFEST_BYTES)
    check_version(path, content)
    manifest = unseal_json(path, content, BankManifest)
    check_manifest(path, manifest)
    return manifest


def check_manifest(path: Path, manifest: BankManifest) -> None:
    """Refuse a manifest that no bank can have: limits on shapes, counts and densities, beyond its types.

    Raises:
        FormatError: naming the field.
    """
    layers = manifest.backbone.layers
    if len(layers) > MAX_LAYERS:
        raise FormatError(path, f"has {len(layers):,} layers, expected at most {MAX_LAYERS:,}")
    if not manifest.backbone.masked_layers:
        raise FormatError(path, "the backbone has no maskable layer")
    if len({layer.name for layer in layers}) != len(layers):
        raise FormatError(path, "two layers have one name")
    for layer in layers:
        if not layer.shape or any(not 1 <= side <= MAX_SIDE for side in layer.shape):
            raise FormatError(path, f"layer {layer.name} has shape {layer.shape}")
        if layer.masked and len(layer.shape) < 2:
            raise FormatError(path, f"layer {layer.name} has shape {layer.shape}, expected two or more axes")
    if (weights := sum(layer.size for layer in layers)) > MAX_WEIGHTS:
        raise FormatError(path, f"has a backbone of {weights:,} weights, expected at most {MAX_WEIGHTS:,}")
    if prod(manifest.backbone.input_shape) > MAX_PIXELS:
        raise FormatError(path, f"has input of shape {manifest.backbone.input_shape}: more than {MAX_PIXELS:,} values")
    if not 1 <= len(manifest.masks) <= MAX_MASKS:
        raise FormatError(path, f"plans {len(manifest.masks)} masks, expected 1 to {MAX_MASKS}")
    for index, plan in enumerate(manifest.masks):
        if not 0.0 < plan.density <= 1.0:
            raise FormatError(path, f"masks[{index}].density is {plan.density}, expected a number in (0, 1]")
        if (plan.kind == "random") != (plan.fit is None) or (plan.kind == "random") != (plan.task is None):
            raise FormatError(
                path, f"masks[{index}] is {plan.kind}: a trained mask has a task and a fit, a random none"
            )
