"""The frozen network: a structure, and the weights that every call may replace."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor, nn

from impress_format.parts.vote import VOTE_TEMPERATURE
from impress_format.records.network import BackboneSpec
from impress_learn.network.folding import channels_last, freeze
from impress_learn.network.functional import Places, functional_call, places_of

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True, eq=False)
class Vote:
    """Effective weights of several networks, which answer together.

    Attributes:
        members: the weights of each, norm statistics included.
        shares: what each counts, all adding up to 1.
    """

    members: tuple[Mapping[str, Tensor], ...]
    shares: tuple[float, ...]


Effective: TypeAlias = Mapping[str, Tensor] | Vote
"""What stands in place of the network's weights; of a vote, of several networks."""


def members_of(effective: Effective) -> Sequence[Mapping[str, Tensor]]:
    """The weights of each network."""
    return effective.members if isinstance(effective, Vote) else [effective]


def each_tensor(effective: Effective, change: Callable[[Tensor], Tensor]) -> Effective:
    """The same with every tensor changed."""
    changed = tuple({name: change(tensor) for name, tensor in one.items()} for one in members_of(effective))
    return replace(effective, members=changed) if isinstance(effective, Vote) else changed[0]


def count_votes(logits: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Logits (batch, classes) of networks together: the logarithm of the mean, by their shares, of what each finds
    likely, all at one temperature.
    """
    answers = [
        torch.log_softmax(one / VOTE_TEMPERATURE, dim=1) + math.log(share)
        for one, share in zip(logits, shares, strict=True)
    ]
    return VOTE_TEMPERATURE * torch.logsumexp(torch.stack(answers), dim=0)


@dataclass(frozen=True)
class Backbone:
    """A frozen network.

    Attributes:
        spec: what rebuilds it.
        module: the structure; parameters hold the random weights and never change.
        weights: the maskable weights by name, in module order, float32.
        answers: how many of the outputs, the first, are those of a task with fewer classes; None for all.
        mirrored: whether it is asked for each image and its mirror image, and gives the mean: where it answers, not
            where weights are learned.
    """

    spec: BackboneSpec
    module: nn.Module
    weights: dict[str, Tensor]
    answers: int | None = None
    mirrored: bool = False

    def __call__(self, effective: Effective, images: Tensor) -> Tensor:
        """Logits (batch, classes) of normalised images (batch, *input_shape) under effective weights.

        Those of a vote are `count_votes` of its members; of a network that is `mirrored`, the mean of two.
        BatchNorm takes the statistics that stand beside the weights (`with_statistics`), else those of the batch.
        """
        if isinstance(effective, Vote):
            return count_votes([self(member, images) for member in effective.members], effective.shares)
        if self.norms:
            calibrated = f"{self.norms[0]}.running_mean" in effective
            for path in self.norms:
                self.module.get_submodule(path).train(not calibrated)
        if images.is_cuda or self.spec.pretrained is not None:
            images = channels_last(images)
        laid = dict(effective)
        logits = self.with_mirror(lambda seen: functional_call(self.module, laid, (seen,), self.places), images)
        return logits if self.answers is None else logits[:, : self.answers]

    def with_mirror(self, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """What a network gives for images (batch, C, H, W); where this one is `mirrored`, the mean of that and of what
        it gives for their mirror images.
        """
        return (network(images) + network(images.flip(3))) / 2 if self.mirrored else network(images)

    def answering(self, classes: int | None) -> Backbone:
        """The same network, whose logits are those of a task of so many classes alone; None for all outputs."""
        return self if classes is None or classes == self.spec.classes else replace(self, answers=classes)

    @cached_property
    def frozen(self) -> nn.Module:
        """The network under its own weights, for many images: the same answers but for rounding, in less time."""
        return self.module if self.norms else freeze(self.module)

    @cached_property
    def places(self) -> Places:
        """Where the network holds each tensor."""
        return places_of(self.module)

    @cached_property
    def norms(self) -> tuple[str, ...]:
        """Names of the BatchNorm layers that take statistics of images; those of pretrained weights have their own."""
        if self.spec.pretrained is not None:
            return ()
        return tuple(path for path, layer in self.module.named_modules() if isinstance(layer, _BATCH_NORMS))

    @property
    def has_batch_norm(self) -> bool:
        return bool(self.norms)

    def with_weights(self, weights: Mapping[str, Tensor]) -> Backbone:
        """The same network with other weights in some layers; this one keeps its own."""
        module = copy.deepcopy(self.module)
        parameters = dict(module.named_parameters())
        for name, weight in weights.items():
            parameters[name].data = weight
        return replace(bind(self.spec, module), answers=self.answers, mirrored=self.mirrored)

    def to(self, device: torch.device) -> Backbone:
        """The same network on `device`; this one stays where it is."""
        if all(weight.device == device for weight in self.weights.values()):
            return self
        moved = bind(self.spec, copy.deepcopy(self.module).to(device))
        return replace(moved, answers=self.answers, mirrored=self.mirrored)


def bind(spec: BackboneSpec, module: nn.Module) -> Backbone:
    """The backbone whose weights are in `module` already."""
    parameters = dict(module.named_parameters())
    weights = {layer.name: parameters[layer.name].data for layer in spec.masked_layers}
    for layer in module.modules():
        if isinstance(layer, _BATCH_NORMS):
            layer.momentum = None  # cumulative average: after one batch, its mean and its variance with N - 1
    return Backbone(spec=spec, module=module, weights=weights)
