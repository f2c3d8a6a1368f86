"""The end of a network, cut off before the layers that a residual is of: what lies before is computed once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from impress_learn.features.features import AT_ONCE, features, in_parts, require_classifier
from impress_learn.network.backbone import Backbone
from impress_learn.network.folding import channels_last, fold_norms, trace_or_none
from impress_learn.network.functional import functional_call, places_of
from impress_learn.streams.images import Images

MOST_BYTES = 2 << 30
"""Most bytes of cached activations of a task's images. Beyond them, activations are computed for every batch."""


@dataclass(frozen=True, eq=False)
class TrainableSuffix:
    """The end of a network.

    Attributes:
        prefix: normalised images (n, *shape) -> what the suffix takes of them (n, ...).
        features: weights by name, and that -> features (n, W).
    """

    prefix: Callable[[Tensor], Tensor]
    features: Callable[[Mapping[str, Tensor], Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class CachedActivations:
    """Labelled images, as what a tail takes of them.

    Attributes:
        kept: (N, copies, ...), first of the images as they are, then of augmented ones; None where that is too much.
    """

    suffix: TrainableSuffix
    images: Images
    kept: Tensor | None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def device(self) -> torch.device:
        return self.images.device

    def batch(self, indices: Tensor | slice, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """What the tail takes of some images, of any copy of each if there is a generator, and their labels."""
        if self.kept is None:
            images, labels = self.images.batch(indices, generator)
            with torch.no_grad():
                return self.suffix.prefix(images), labels
        labels = self.images.labels[indices]
        if generator is None:
            return self.kept[indices, 0], labels
        copies = torch.randint(self.kept.shape[1], (len(labels),), generator=generator).to(self.device)
        return self.kept[indices, copies], labels


def cut_off(backbone: Backbone, layers: Collection[str]) -> TrainableSuffix:
    """The tail that begins at the last place before all of these layers (by the names of their weights) that a single
    tensor goes through. Of a network that cannot be traced, all of it. It sees images as they are, mirrored or not.
    """
    graph = trace_or_none(backbone.module)
    if graph is None:
        plain = replace(backbone, mirrored=False)
        return TrainableSuffix(lambda images: images, lambda effective, images: features(plain, effective, images))
    path = require_classifier(backbone)
    nodes = list(graph.nodes)
    classifier = next(node for node in nodes if node.op == "call_module" and node.target == path)
    ordered = nodes[: nodes.index(classifier)]
    covered = {name.removesuffix(".weight") for name in layers} | set(layers)
    first = next(index for index, node in enumerate(ordered) if node.target in covered)
    at, through = _last_single(ordered, first, classifier)
    (taken,) = classifier.args
    assert isinstance(taken, fx.Node)
    prefix = fold_norms(_part(backbone.module, ordered[:at], through))
    rest = fold_norms(_part(backbone.module, ordered[at:], taken, through), layers)

    def features_of(effective: Mapping[str, Tensor], activations: Tensor) -> Tensor:
        found: Tensor = functional_call(rest, dict(effective), (channels_last(activations),), places)
        return found

    places = places_of(rest)
    return TrainableSuffix(lambda images: in_parts(lambda part: prefix(channels_last(part)), images), features_of)


def cache_activations(
    suffix: TrainableSuffix, images: Images, *, augmented: int = 0, seed: int = 0
) -> CachedActivations:
    """What the tail takes of all images, and of so many augmented copies if they are augmented at all, where that takes
    no more than MOST_BYTES.
    """
    augmented = 0 if images.augment is None else augmented
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        one = suffix.prefix(images.batch(slice(0, 1))[0])
        if one.numel() * one.element_size() * len(images) * (1 + augmented) > MOST_BYTES:
            return CachedActivations(suffix, images, None)
        kept = one.new_empty(len(images), 1 + augmented, *one.shape[1:])
        for start in range(0, len(images), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            for copy in range(1 + augmented):
                kept[rows, copy] = suffix.prefix(images.batch(rows, generator if copy else None)[0])
    return CachedActivations(suffix, images, kept)


def _last_single(ordered: list[fx.Node], first: int, end: fx.Node) -> tuple[int, fx.Node]:
    """The last place up to `first` that a single value goes through, and that value."""
    place = {node: index for index, node in enumerate([*ordered, end])}
    for at in range(first, 0, -1):
        living = [
            node
            for node in ordered[:at]
            if node.op != "get_attr" and any(place.get(user, -1) >= at for user in node.users)
        ]
        if len(living) == 1:
            return at, living[0]
    raise AssertionError("an input goes through the place behind it")


def _part(root: nn.Module, nodes: list[fx.Node], result: fx.Node, given: fx.Node | None = None) -> fx.GraphModule:
    """The module of some nodes, which takes what `given` stands for; parameters are shared with `root`."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    if given is not None:
        copies[given] = graph.placeholder("begun")

    def copy(node: fx.Node) -> fx.Node:
        if node not in copies:  # a parameter that was read before the cut, too
            copies[node] = graph.node_copy(node, copy)
        return copies[node]

    for node in nodes:
        copy(node)
    graph.output(copy(result))
    part = fx.GraphModule(root, graph)
    part.train(root.training)
    return part
