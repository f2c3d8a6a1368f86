"""Features of a pretrained network: what its classifier would see of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from impress_format.errors import UsageError
from impress_learn.network.backbone import Backbone
from impress_learn.network.folding import channels_last
from impress_learn.streams.images import Images

AT_ONCE = 250
"""Images that are read, and augmented, together."""
_LEAST_ON_CPU = 16
"""Images that go through a network together on a CPU: activations of more take longer to be given memory than to be
computed, and 1 x 1 convolutions of fewer are computed without oneDNN on one thread (docs/results/speed.md)."""
_LARGE = 3 * 64 * 64
"""Values of an image from which on this is so."""


def classifiers(backbone: Backbone) -> tuple[str, ...]:
    """Paths of all layers that logits come from, as timm has it; distilled networks have two, and average them.

    Empty where nothing says so: the last layer is then the only one.
    """
    config = getattr(backbone.module, "pretrained_cfg", None) or {}
    named = config.get("classifier") or ()
    paths = (named,) if isinstance(named, str) else named
    return tuple(path for path in paths if f"{path}.weight" in backbone.weights)


def classifier_name(backbone: Backbone) -> str | None:
    """The path of the classifier, if a head can stand in its place: the last masked layer, linear, with a bias."""
    path = backbone.spec.masked_layers[-1].name.removesuffix(".weight")
    layer = backbone.module.get_submodule(path)
    is_it = classifiers(backbone) == (path,) and isinstance(layer, nn.Linear) and layer.bias is not None
    return path if is_it else None


def require_classifier(backbone: Backbone) -> str:
    """As classifier_name.

    Raises:
        UsageError: the network has no such classifier.
    """
    if (name := classifier_name(backbone)) is None:
        raise UsageError(
            f"{backbone.spec.arch} has no linear classifier as its last layer, in whose place a head could stand"
        )
    return name


def features(backbone: Backbone, effective: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Features (batch, W) of normalised images under effective weights."""
    return _before_classifier(backbone, backbone.module, lambda: backbone(effective, images))


def frozen_features(backbone: Backbone, images: Tensor) -> Tensor:
    """Features (batch, W) of normalised images under the network's own weights."""

    def network(part: Tensor) -> Tensor:
        return _before_classifier(backbone, backbone.frozen, lambda: backbone.frozen(channels_last(part)))

    return backbone.with_mirror(lambda seen: in_parts(network, seen), images)


def in_parts(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What a network that nothing is trained in gives for images (batch, ...), as many at a time as are fastest."""
    parts = len(images) // _LEAST_ON_CPU
    if images.device.type != "cpu" or parts < 2:
        return network(images)
    return torch.cat([network(part) for part in images.tensor_split(parts)])


def answers_in_parts(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """As in_parts, of networks of any size: small images go through together."""
    return in_parts(network, images) if images.shape[1:].numel() >= _LARGE else network(images)


def _before_classifier(backbone: Backbone, module: nn.Module, answer: Callable[[], object]) -> Tensor:
    caught: list[Tensor] = []
    layer = module.get_submodule(require_classifier(backbone))
    hook = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        answer()
    finally:
        hook.remove()
    return caught[0]


def features_of(backbone: Backbone, images: Images, generator: torch.Generator | None = None) -> Tensor:
    """Features (N, W) of the network itself, of all images.

    Args:
        generator: of how they are augmented; None for as they are.
    """
    with torch.no_grad():
        return torch.cat(
            [
                frozen_features(backbone, images.batch(slice(start, start + AT_ONCE), generator)[0])
                for start in range(0, len(images), AT_ONCE)
            ]
        )
