"""A hashed residual beside the masks: few values that all weights share, of one bit or more each (docs/method.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.parts.numbers import FloatArray
from impress_format.parts.residual import RESIDUAL as FORMAT
from impress_format.parts.residual import (
    ResidualSettings,
    lay_values,
    residual_layers,
    split_values,
    store_residual,
)
from impress_format.records.fields import ValueBits
from impress_format.records.network import BackboneSpec
from impress_format.tasks.file import StoredTask
from impress_format.weights import substream_seed
from impress_learn.parts.part import Array, Beginning, Ground, TaskPart, Trainable, Weights, check_bits
from impress_learn.training.config import require

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from impress_learn.parts.table import Parts

RATE = 2 / 3
"""What a residual's values move by, for each step of a coefficient."""
_START_BESIDE_ALPHA, _START_ALONE, _START_BESIDE_READ_OUT = 0.1, 0.5, 0.02
"""Deviation of the values before training: from zeros the scale would be zero, and nothing would move."""
_TAIL = 0.92
"""Default for `residual_layers` beside a head: as many last layers as hold this share of the weights before the
classifier: 25 of EfficientNet-Lite0's 49. In fewer it gains less (docs/trials.md, Heads)."""


@dataclass(frozen=True, eq=False)
class HashedResidual:
    """How values lie on a network.

    Attributes:
        bits: of a value.
        sizes: values of each of these layers.
        places: for each layer that it is of, by name, which of all values each weight has: int64, the layer's shape.
    """

    bits: ValueBits
    sizes: tuple[int, ...]
    places: Mapping[str, Tensor]

    @property
    def count(self) -> int:
        return sum(self.sizes)

    def rounded(self, values: Tensor) -> Tensor:
        """The values as they will be stored, nearly; gradients go straight through."""
        from impress_learn.masks.quantise import rounded_rows

        return rounded_rows(values, self.sizes, self.bits)

    def store(self, values: Tensor) -> npt.NDArray[np.uint8]:
        """The bytes of the values (impress_format/parts/residual.py)."""
        from impress_learn.masks.quantise import stored_rows

        codes, scales = stored_rows(values.detach().cpu(), self.sizes, self.bits)
        return store_residual(codes, scales, self.bits)

    def add_to(
        self, combined: Mapping[str, Tensor], weights: Mapping[str, Tensor], values: Tensor
    ) -> dict[str, Tensor]:
        """Effective weights with a residual: those without it, plus v[h] * W in the layers that it is of."""
        from impress_learn.masks.gather import gather_times

        added = {name: gather_times(values, places, weights[name]) for name, places in self.places.items()}
        return {name: effective + added[name] if name in added else effective for name, effective in combined.items()}


def make_residual(
    spec: BackboneSpec, count: int, bits: ValueBits, device: torch.device, *, last: int = 0
) -> HashedResidual:
    """`count` values for the masked layers of a network, or for the `last` of them before the classifier."""
    import torch

    layers = residual_layers(spec, last)
    places = {layer.name: torch.from_numpy(chosen).to(device) for layer, chosen in lay_values(spec.seed, layers, count)}
    return HashedResidual(bits, split_values(layers, count), places)


def trainable_residual(residual: HashedResidual, weights: Mapping[str, Tensor], start: Tensor) -> Trainable:
    """The values (count,) of a residual, rounded in every step as they will be stored.

    Args:
        weights: of the network.
        start: values to train from.
    """
    device = next(iter(residual.places.values())).device
    values = (start / RATE).clone().to(device).requires_grad_()

    def learned() -> Tensor:
        return (values.detach() * RATE).cpu()

    return Trainable(
        tensors=list(residual.places),
        parameters=[values],
        add=lambda effective: residual.add_to(effective, weights, residual.rounded(values * RATE)),
        learned=learned,
        store=lambda: residual.store(learned()),
    )


def first_values(residual: HashedResidual, seed: int, deviation: float) -> Tensor:
    """Values (count,) to train from, drawn."""
    import torch

    generator = torch.Generator().manual_seed(substream_seed(seed, "residual"))
    return torch.randn(residual.count, generator=generator) * deviation


def usual_layers(spec: BackboneSpec) -> int:
    """The last layers before the classifier that a residual beside a head is of, where nobody asks."""
    return spec.last_layers_holding(_TAIL)


def _on(ground: Ground, count: int) -> HashedResidual:
    """Where so many values lie on the network of a task."""
    said, device = ground.settings.residual, ground.basis.device
    return make_residual(ground.backbone.spec, count, said.bits, device, last=said.layers)


def _begin(ground: Ground, beginning: Beginning) -> Trainable:
    import torch

    parts, start = beginning.parts, beginning.start
    residual = _on(ground, parts.values)
    beside = _START_BESIDE_ALPHA if beginning.masks else _START_ALONE
    values = first_values(residual, beginning.fit.seed, _START_BESIDE_READ_OUT if ground.reads_out else beside)
    if start is not None and _same(start, parts) and (present := FORMAT.of(start)) is not None:
        values = torch.from_numpy(present)
    return trainable_residual(residual, ground.backbone.weights, values)


def _add(ground: Ground, effective: Weights, values: FloatArray) -> Weights:
    import torch

    residual = _on(ground, len(values))
    return residual.add_to(effective, ground.backbone.weights, torch.from_numpy(values).to(ground.basis.device))


def _settle(bank: Bank, parts: Parts) -> Parts:
    check_bits("residual_bits", parts.residual_bits)
    require(parts.residual >= 0, f"`residual` {parts.residual}: expected 0 or more bits")
    require(
        parts.residual_layers is None or (parts.residual > 0 and parts.reads_out),
        f"`residual_layers` {parts.residual_layers} is of a residual beside a head: give `residual` and `head` too",
    )
    require(
        bool(parts.alpha or parts.vote) or parts.residual > 0 or parts.reads_out,
        "a task without coefficients is a residual: give `residual`, its bits in all",
    )
    if not parts.residual:
        return replace(parts, residual=0, residual_bits=1, residual_layers=None)
    if bank.manifest.format_version == 1:
        raise BankMismatch(f"{bank.path} has format version 1, which has no residual: run `impress bank upgrade`")
    spec, each = bank.backbone, parts.residual_bits
    last = _choose_layers(spec, parts.residual_layers) if parts.reads_out else None
    count = parts.residual // each
    require(count * each % 8 == 0, f"`residual` {count * each}: expected whole bytes, a multiple of 8")
    covered = residual_layers(spec, last or 0)
    most = sum(layer.size for layer in covered)
    require(
        len(covered) <= count <= most,
        f"`residual` {count * each}: {count:,} values of {each} bits, expected {len(covered):,} (one a layer) to "
        f"{most:,} (one a weight)",
    )
    return replace(parts, residual=count * each, residual_layers=last)


def _choose_layers(spec: BackboneSpec, asked: int | None) -> int:
    """As asked, or as usual.

    Raises:
        UsageError: there are not so many.
    """
    most = len(spec.masked_layers) - 1
    require(
        asked is None or 1 <= asked <= most,
        f"`residual_layers` {asked}: expected 1 to {most:,}, the layers before the classifier",
    )
    return usual_layers(spec) if asked is None else asked


def _of_stored(stored: StoredTask) -> Mapping[str, Any]:
    if (values := FORMAT.of(stored)) is None:
        return {"residual": 0}
    said = stored.record.settings.residual
    return {
        "residual": len(values) * said.bits,
        "residual_bits": said.bits,
        "residual_layers": said.layers or None,
    }


def _blank(bank: Bank, parts: Parts, _: int) -> Array:
    layers = residual_layers(bank.backbone, parts.residual_layers or 0)
    codes, scales = np.zeros(parts.values, dtype=np.uint8), np.zeros(len(layers), dtype=np.float16)
    return store_residual(codes, scales, parts.residual_bits)


def _same(stored: StoredTask, parts: Parts) -> bool:
    """Whether a stored task has a residual whose values lie as those of these parts do."""
    values = FORMAT.of(stored)
    own = None if values is None else (len(values), stored.record.settings.residual.bits)
    return parts.residual > 0 and own == (parts.values, parts.residual_bits)


def _words(parts: Parts, _: int) -> str:
    alone = not (parts.alpha or parts.reads_out)
    return f"a residual of {parts.values:,} bits" + (", as no mask fits beside it" if alone else "")


RESIDUAL = TaskPart(
    format=FORMAT,
    fields=("residual", "residual_bits", "residual_layers"),
    asked=lambda parts: parts.residual > 0,
    settle=_settle,
    of_stored=_of_stored,
    blank=_blank,
    words=_words,
    settings=lambda parts: ResidualSettings(
        bits=parts.residual_bits if parts.residual else 0, layers=parts.residual_layers or 0
    ),
    add=_add,
    begin=_begin,
    begins_from=lambda stored, parts, _: _same(stored, parts),
)
