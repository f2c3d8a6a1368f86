"""Scale and shift of the network's norm layers, moved for a task (docs/method.md, Norm)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from impress_format.bank import Bank
from impress_format.errors import FormatError
from impress_format.parts.norm import NORM as FORMAT
from impress_format.parts.norm import NormSettings, StoredNorm, store_norm
from impress_format.parts.numbers import NumbersError
from impress_format.records.network import BackboneSpec
from impress_format.tasks.file import StoredTask
from impress_format.versions import require_version
from impress_learn.parts.part import Array, Beginning, Ground, TaskPart, Trainable, Weights
from impress_learn.training.config import require

if TYPE_CHECKING:
    from torch import Tensor, nn

    from impress_learn.network.backbone import Backbone
    from impress_learn.parts.table import Parts

_SUFFIX = 0.25
"""Beside a head alone, of the weights before the classifier: what the last layers hold whose norm layers are moved."""
RATE = 1.0
"""What the values move by, for each step of a coefficient, chosen on held-out images (docs/trials.md, Norm)."""
BESIDE_READ_OUT = 0.03
"""The same beside a read-out, chosen likewise."""

Rows = tuple[tuple[str, int], ...]
"""Tensors of the network and their sizes: of each norm layer its scale, then its shift."""


def trainable_norm(backbone: Backbone, bits: int, layers: int, start: Tensor | None, *, rate: float) -> Trainable:
    """What scale and shift of the last norm layers move by, rounded in every step as it will be stored.

    Args:
        bits: of a value.
        layers: how many of the last norm layers.
        start: (values,), what they are moved by already; None for nothing.
        rate: what the values move by for each step of the optimiser.
    """
    import torch

    from impress_learn.masks.quantise import rounded_rows, stored_rows

    own = _last_rows(backbone, layers)
    sizes = _sizes_of(own)
    device = next(iter(backbone.weights.values())).device
    values = (torch.zeros(sum(sizes)) if start is None else start / rate).clone().to(device).requires_grad_()

    def learned() -> Tensor:
        return (values.detach() * rate).cpu()

    def stored() -> Array:
        codes, scales = stored_rows(learned(), sizes, bits)
        return store_norm(codes, scales, bits)

    return Trainable(
        tensors=list(own),
        parameters=[values],
        add=lambda effective: {**effective, **_moved(own, rounded_rows(values * rate, sizes, bits))},
        learned=learned,
        store=stored,
    )


def norm_rows(module: nn.Module) -> Rows:
    """Scales and shifts of a network's norm layers, in its order; a layer without both is none."""
    from torch import nn

    kinds = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
    return tuple(
        (f"{path}.{name}", getattr(layer, name).numel())
        for path, layer in module.named_modules()
        if isinstance(layer, kinds) and layer.weight is not None and layer.bias is not None
        for name in ("weight", "bias")
    )


@lru_cache(maxsize=4)
def _rows_of(arch: str, input_shape: tuple[int, int, int], classes: int) -> tuple[Rows, tuple[str, ...]]:
    """Norm rows of a network of this structure, and the names of all its parameters in order."""
    from impress_learn.network.build import structure

    module = structure(arch, input_shape, classes)
    return norm_rows(module), tuple(name for name, _ in module.named_parameters())


def _usual_layers(spec: BackboneSpec, suffix: int | None) -> int:
    """The last norm layers: all, or with `suffix` those behind the first of so many masked layers before the last."""
    rows, names = _rows_of(spec.arch, spec.input_shape, spec.classes)
    first = 0 if suffix is None else names.index(spec.masked_layers[-1 - suffix].name)
    return sum(names.index(name) >= first for name, _ in rows) // 2


def _last_rows(backbone: Backbone, layers: int) -> Weights:
    """Scale and shift of the last norm layers, as the network has them."""
    parameters = dict(backbone.module.named_parameters())
    return {name: parameters[name].detach() for name, _ in norm_rows(backbone.module)[-2 * layers :]}


def _sizes_of(rows: Weights) -> tuple[int, ...]:
    return tuple(values.numel() for values in rows.values())


def _moved(rows: Weights, by: Tensor) -> Weights:
    """These rows, plus values (all of theirs,) one row after the other."""
    parts = by.split(_sizes_of(rows))
    return {name: own + part.reshape(own.shape) for (name, own), part in zip(rows.items(), parts, strict=True)}


def _begin(ground: Ground, beginning: Beginning) -> Trainable:
    import torch

    parts, start = beginning.parts, None
    layers = ground.settings.norm.layers
    if beginning.start is not None and _same(beginning.start, parts):
        present = FORMAT.of(beginning.start)
        sizes = _sizes_of(_last_rows(ground.backbone, layers))
        start = None if present is None else torch.from_numpy(present.rows(sizes))
    rate = BESIDE_READ_OUT if ground.reads_out else RATE
    return trainable_norm(ground.backbone, parts.norm, layers, start, rate=rate)


def _add(ground: Ground, effective: Weights, stored: StoredNorm) -> Weights:
    import torch

    rows = _last_rows(ground.backbone, ground.settings.norm.layers)
    try:
        by = torch.from_numpy(stored.rows(_sizes_of(rows))).to(ground.basis.device)
    except NumbersError as error:
        raise FormatError(ground.path, f"norm {error}") from error
    return {**effective, **_moved(rows, by)}


def _settle(bank: Bank, parts: Parts) -> Parts:
    require(parts.norm in (0, 4, 8), f"`norm` {parts.norm}: expected 4 or 8 bits a value, or 0 for none")
    require(
        parts.norm_layers is None or parts.norm > 0,
        f"`norm_layers` {parts.norm_layers} are those that `norm` is of: give its bits too",
    )
    if not parts.norm:
        return replace(parts, norm_layers=None)
    require_version(bank.path, bank.manifest.format_version, "which has no norm")
    spec = bank.backbone
    most = _usual_layers(spec, None)
    require(most > 0, f"`norm` {parts.norm}: {spec.arch} has no norm layer with scale and shift")
    require(
        parts.norm_layers is None or 1 <= parts.norm_layers <= most,
        f"`norm_layers` {parts.norm_layers}: expected 1 to {most:,}, the norm layers of {spec.arch}",
    )
    suffix = None
    if parts.reads_out:
        suffix = parts.residual_layers or spec.last_layers_holding(_SUFFIX)
    return replace(parts, norm_layers=parts.norm_layers or max(1, _usual_layers(spec, suffix)))


def _of_stored(stored: StoredTask) -> Mapping[str, Any]:
    said = stored.record.settings.norm
    return {"norm": said.bits, "norm_layers": said.layers or None}


def _blank(bank: Bank, parts: Parts, _: int) -> Array:
    spec, layers = bank.backbone, parts.norm_layers or 0
    rows, _names = _rows_of(spec.arch, spec.input_shape, spec.classes)
    count = sum(size for _, size in rows[-2 * layers :])
    return store_norm(np.zeros(count, dtype=np.uint8), np.zeros(2 * layers, dtype=np.float16), parts.norm)


def _same(stored: StoredTask, parts: Parts) -> bool:
    """Whether a stored task has moved the same norm layers, in as many bits."""
    return parts.norm > 0 and _of_stored(stored) == {"norm": parts.norm, "norm_layers": parts.norm_layers}


NORM = TaskPart(
    format=FORMAT,
    fields=("norm", "norm_layers"),
    asked=lambda parts: parts.norm > 0,
    settle=_settle,
    of_stored=_of_stored,
    blank=_blank,
    words=lambda parts, _: f"scale and shift of {parts.norm_layers:,} norm layers",
    settings=lambda parts: NormSettings(bits=parts.norm, layers=parts.norm_layers or 0),
    add=_add,
    begin=_begin,
    begins_from=lambda stored, parts, _: _same(stored, parts),
)
