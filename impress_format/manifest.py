"""What a manifest must be beyond its types: limits on shapes, counts and densities (docs/format.md)."""

from __future__ import annotations

from pathlib import Path

from impress_format.errors import FormatError
from impress_format.records import BankManifest

MAX_MASKS = 100_000
MAX_SIDE = 1 << 24
MAX_LAYER = 1 << 32


def check_manifest(path: Path, manifest: BankManifest) -> None:
    """Refuse a manifest that no bank can have.

    Raises:
        FormatError: naming the field.
    """
    layers = manifest.backbone.layers
    if not manifest.backbone.masked_layers:
        raise FormatError(path, "the backbone has no maskable layer")
    if len({layer.name for layer in layers}) != len(layers):
        raise FormatError(path, "two layers have one name")
    for layer in layers:
        if not layer.shape or any(not 1 <= side <= MAX_SIDE for side in layer.shape) or layer.size > MAX_LAYER:
            raise FormatError(path, f"layer {layer.name} has shape {layer.shape}")
        if layer.masked and len(layer.shape) < 2:
            raise FormatError(path, f"layer {layer.name} has shape {layer.shape}, expected two or more axes")
    if not 1 <= len(manifest.masks) <= MAX_MASKS:
        raise FormatError(path, f"plans {len(manifest.masks)} masks, expected 1 to {MAX_MASKS}")
    for index, plan in enumerate(manifest.masks):
        if not 0.0 < plan.density <= 1.0:
            raise FormatError(path, f"masks[{index}].density is {plan.density}, expected a number in (0, 1]")
        if (plan.kind == "random") != (plan.fit is None) or (plan.kind == "random") != (plan.task is None):
            raise FormatError(
                path, f"masks[{index}] is {plan.kind}: a trained mask has a task and a fit, a random none"
            )
