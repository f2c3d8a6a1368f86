"""Records of the frozen network: its layers, the weights it stands on, all that it is rebuilt by."""

from __future__ import annotations

import hashlib
from math import prod
from typing import Annotated

from msgspec import Meta

from impress_format.limits import MAX_AXES, MAX_CLASSES, MAX_LAYERS
from impress_format.records.fields import FullDigest, Init, LayerName, Record, Seed, Side, Text

LENET = "lenet-300-100"
"""What `arch` says of the built-in network."""


class LayerSpec(Record, frozen=True, omit_defaults=True):
    """One tensor of the backbone that is drawn from the seed.

    `masked` is false for tensors that are random but carry no mask (position embeddings, class tokens). `acts_as` is
    (outputs, inputs, kernel...) of the convolution that a layer computes, where the axes of its shape mean something
    else: transposed convolutions and banks of experts. None: they mean just that.
    """

    name: LayerName
    shape: Annotated[tuple[Side, ...], Meta(min_length=1, max_length=MAX_AXES)]
    masked: bool = True
    acts_as: Annotated[tuple[Side, ...], Meta(min_length=2, max_length=MAX_AXES)] | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def fans(self) -> tuple[Side, ...]:
        """Outputs, inputs that one output sees, and how often for each (kernel)."""
        return self.acts_as or self.shape

    @property
    def fan_in(self) -> int:
        """Weights that one output sees."""
        return prod(self.fans[1:])


class PretrainedRecord(Record, frozen=True, omit_defaults=True):
    """Weights that others trained, which the network stands on. The bank names them and does not hold them.

    `tensors` has the SHA-256 of each in their file, those that the network has no use for (its classifier) too;
    `origin` is where to get it, if the file says so; `revision` the commit of the Hub's repository, where they are
    of one and a release that records it made the bank.
    """

    source: Annotated[
        str, Meta(pattern=r"\A(file:[\w .,+()-]{1,255}|timm:[\w.-]{1,96}|hf-hub:[\w.-]{1,96}/[\w.-]{1,96})\Z")
    ]
    tensors: Annotated[dict[Text, FullDigest], Meta(min_length=1, max_length=MAX_LAYERS)]
    licence: Text | None = None
    origin: Text | None = None
    revision: Annotated[str, Meta(pattern=r"\A[0-9a-f]{40}\Z")] | None = None

    @property
    def address(self) -> str:
        """The source with its revision, as `weights` takes it."""
        return f"{self.source}@{self.revision}" if self.revision else self.source

    @property
    def identity(self) -> str:
        """SHA-256 that all copies of these tensors share, whatever their file is called."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self.tensors.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


class BackboneSpec(Record, frozen=True, omit_defaults=True):
    """All that is needed to rebuild the frozen network, and to check it by: the digest of its weights, a few logits.

    A bank of version 1 has no logits. On weights that others trained (`pretrained`) only the last layer is drawn from
    the seed; norms keep the statistics that came with them. `zeros` are constant parameters that hold 0 and are not
    named biases, which hold 0 anyway.
    """

    arch: Text
    init: Init
    seed: Seed
    input_shape: tuple[Side, Side, Side]
    classes: Annotated[int, Meta(ge=1, le=MAX_CLASSES)]
    layers: Annotated[tuple[LayerSpec, ...], Meta(max_length=MAX_LAYERS)]
    digest: FullDigest
    logits: Annotated[tuple[float, ...], Meta(min_length=1, max_length=64)] | None = None
    pretrained: PretrainedRecord | None = None
    zeros: Annotated[tuple[LayerName, ...], Meta(max_length=MAX_LAYERS)] = ()

    @property
    def masked_layers(self) -> tuple[LayerSpec, ...]:
        return tuple(layer for layer in self.layers if layer.masked)

    def adapted_layers(self, count: int) -> tuple[LayerSpec, ...]:
        """The last `count` masked layers before the classifier, without those whose outputs see a single input."""
        layers = self.masked_layers
        return tuple(layer for layer in layers[len(layers) - 1 - count : -1] if layer.fans[1] > 1)

    def last_layers_holding(self, share: float) -> int:
        """The fewest last masked layers before the last one that hold this share of the weights before it."""
        layers = self.masked_layers[:-1]
        enough, held = share * sum(layer.size for layer in layers), 0
        for count, layer in enumerate(reversed(layers), start=1):
            held += layer.size
            if held >= enough:
                return count
        return len(layers)

    @property
    def weights(self) -> int:
        """Number of maskable weights, n in the paper."""
        return sum(layer.size for layer in self.masked_layers)

    @property
    def maskable_share(self) -> float:
        """Maskable weights among all that are drawn; biases, norms and other constants are none of them."""
        return self.weights / sum(layer.size for layer in self.layers)
