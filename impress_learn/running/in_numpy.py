"""The built-in network under the weights of a task, in NumPy: for a few images torch takes longer to start.

It answers as running/loaded.py does, up to the last bits of a float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod

import numpy as np
import numpy.typing as npt

from impress_format.bank import Bank
from impress_format.errors import BackboneMismatch
from impress_format.masks.mask_values import MaskArray
from impress_format.parts.alpha import ALPHA, alpha_columns
from impress_format.parts.class_names import CLASSES
from impress_format.parts.numbers import FloatArray
from impress_format.parts.own_mask import OWN_MASK
from impress_format.parts.residual import RESIDUAL, lay_values, residual_layers
from impress_format.parts.signature import SIGNATURE
from impress_format.parts.vote import VOTE, VOTE_TEMPERATURE
from impress_format.records.network import LENET
from impress_format.tasks.file import StoredTask
from impress_format.weights import layer_weights, weights_digest

PARTS = frozenset(part.name for part in (ALPHA, CLASSES, OWN_MASK, RESIDUAL, SIGNATURE, VOTE))
"""That a task may have here: laid over the network, or labels beside it."""

Weights = list[FloatArray]
"""A weight matrix (out, in) for each layer."""


@dataclass(frozen=True, eq=False)
class Members:
    """Weights of networks that answer together, by their shares; of one alone, where masks do not vote."""

    weights: tuple[Weights, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class NumpyBank:
    """A bank of the built-in network in memory.

    Attributes:
        weights: the frozen ones, by layer.
    """

    bank: Bank
    weights: Mapping[str, FloatArray]

    @cached_property
    def masks(self) -> list[dict[str, MaskArray]]:
        """All of them.

        Raises:
            FormatError: one is damaged.
        """
        return [self.bank.read_mask(index)[1] for index in range(len(self.bank.manifest.masks))]

    def mask_weights(self, index: int) -> Members:
        """Effective weights under one mask alone."""
        return Members(([self.masks[index][name] * weight for name, weight in self.weights.items()],), (1.0,))

    def task_weights(self, name: str) -> Members:
        """Effective weights of a stored task.

        Raises:
            TaskNotFound, FormatError.
        """
        stored = self.bank.read_stored(name)
        assert PARTS.issuperset(stored.values)
        if (shares := VOTE.of(stored)) is not None:
            voting = [int(index) for index in np.flatnonzero(shares)]
            members = tuple(self.mask_weights(index).weights[0] for index in voting)
            return Members(members, tuple(float(shares[index]) for index in voting))
        factors = {name: np.zeros(weight.shape, np.float32) for name, weight in self.weights.items()}
        self._add_masks(stored, factors)
        if (own := OWN_MASK.of(stored)) is not None:
            factors[list(factors)[-1]] += own
        if (values := RESIDUAL.of(stored)) is not None:
            spec = self.bank.backbone
            for layer, places in lay_values(spec.seed, residual_layers(spec, 0), len(values)):
                factors[layer.name] += values[places]
        return Members(([factors[name] * weight for name, weight in self.weights.items()],), (1.0,))

    def _add_masks(self, stored: StoredTask, factors: dict[str, FloatArray]) -> None:
        """Add sum_k alpha_k M_k."""
        alpha = ALPHA.of(stored)
        if alpha is None:
            return
        layers = self.bank.backbone.masked_layers
        if OWN_MASK.of(stored) is not None:
            layers = layers[:-1]
        columns = alpha_columns(layers, stored.record.settings.alpha.granularity)
        starts = np.cumsum([0, *columns])
        for layer, groups, start in zip(layers, columns, starts, strict=False):
            group = np.arange(layer.shape[0]) * groups // layer.shape[0]
            total = factors[layer.name]
            for masks, row in zip(self.masks, alpha.values[:, start : start + groups], strict=False):
                total += row[group][:, np.newaxis] * masks[layer.name]

    def probabilities(self, members: Members, images: npt.NDArray[np.uint8], classes: int) -> FloatArray:
        """How likely each class of each image is, (n, classes).

        Args:
            images: uint8 (n, C, H, W), as the bank wants them.
        """
        rows = self.normalised(images)
        answers = [_logits(weights, rows)[:, :classes] for weights in members.weights]
        if members.shares == (1.0,):
            return np.exp(_log_softmax(answers[0]))
        likely = [
            _log_softmax(one / VOTE_TEMPERATURE) + np.log(share)
            for one, share in zip(answers, members.shares, strict=True)
        ]
        return np.exp(_log_softmax(np.float32(VOTE_TEMPERATURE) * np.logaddexp.reduce(np.stack(likely), axis=0)))

    def normalised(self, images: npt.NDArray[np.uint8]) -> FloatArray:
        """Float32 rows (n, pixels) of mean 0 and deviation 1 over the data set."""
        view = self.bank.manifest.preprocess
        assert view is not None
        mean, std = (
            np.array(one, dtype=np.float32)[:, np.newaxis, np.newaxis] * np.float32(255)
            for one in (view.mean, view.std)
        )
        rows: FloatArray = ((images.astype(np.float32) - mean) / std).reshape(len(images), -1)
        return rows


def load_in_numpy(bank: Bank) -> NumpyBank | None:
    """A bank of the built-in network; None of another, and of one that asks for mirror images too.

    Raises:
        BackboneMismatch: its weights come out otherwise than those that it was made with.
    """
    spec = bank.backbone
    if bank.manifest.mirrored:
        return None
    sizes = [prod(spec.input_shape), 300, 100, spec.classes]
    shapes = [(out, fan_in) for fan_in, out in pairwise(sizes)]
    if spec.arch != LENET or [layer.shape for layer in spec.layers] != shapes or spec.masked_layers != spec.layers:
        return None
    weights = {layer.name: layer_weights(spec.seed, spec.init, layer) for layer in spec.layers}
    digest = weights_digest((layer, weights[layer.name]) for layer in spec.layers)
    if digest != spec.digest:
        raise BackboneMismatch(f"the bank expects backbone {spec.digest} ({spec.arch}), rebuilt {digest}")
    return NumpyBank(bank, weights)


def _logits(weights: Sequence[FloatArray], rows: FloatArray) -> FloatArray:
    """Logits of rows (n, inputs), through layers with ReLU between them."""
    *hidden, last = weights
    for weight in hidden:
        rows = np.maximum(rows @ weight.T, 0)
    logits: FloatArray = rows @ last.T
    return logits


def _log_softmax(logits: FloatArray) -> FloatArray:
    shifted = logits - logits.max(1, keepdims=True)
    softened: FloatArray = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return softened
