"""The frozen random network: structure from a name, weights from a seed (method.md, Backbone)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import torch
from torch import nn

from impress_format.errors import BackboneMismatch, UsageError
from impress_format.records import BackboneSpec, Init, LayerSpec, MadeWith
from impress_format.weights import layer_weights, weights_digest
from impress_learn.network.backbone import Backbone, bind
from impress_learn.network.lenet import LENET, LeNet300100
from impress_learn.network.pretrained import Weights, find_weights, put_weights
from impress_learn.network.probe import check_logits, probe_logits
from impress_learn.network.small_resnet import SMALL_RESNET, filters_of, small_resnet
from impress_learn.network.timm_models import constant_parameters, maskable_weights, timm_side, timm_structure
from impress_learn.streams.view import DEFAULT_SIDE


def build_backbone(
    arch: str,
    *,
    init: Init,
    seed: int,
    input_shape: tuple[int, int, int],
    classes: int,
    weights: Weights | None = None,
) -> Backbone:
    """Build `lenet-300-100`, `resnet-18-nfN` or `timm:NAME` for images of `input_shape` (channels, height, width).

    Args:
        weights: that others trained, for all but the last layer; None to draw all from the seed.

    Raises:
        UsageError: unknown architecture, one that cannot take this input, or weights of another.
    """
    module = _structure(arch, input_shape, classes)
    constants = constant_parameters(module)
    layers = _draw_layers(module, constants)
    _fill(module, seed, init, layers, constants)
    if weights is not None:
        put_weights(module, weights.tensors, arch)
    spec = BackboneSpec(
        arch=arch,
        init=init,
        seed=seed,
        input_shape=input_shape,
        classes=classes,
        layers=layers,
        digest=_digest(module, layers),
        pretrained=None if weights is None else weights.record(),
    )
    backbone = bind(spec, module)
    _try_one_image(backbone)
    return replace(backbone, spec=msgspec.structs.replace(spec, logits=probe_logits(backbone)))


def usual_side(arch: str) -> int:
    """Height and width of images that an architecture is made for; of an unknown one, that of small images."""
    family, _, name = arch.partition(":")
    return timm_side(name) if family == "timm" else DEFAULT_SIDE


def rebuild_backbone(spec: BackboneSpec, made: MadeWith | None = None) -> Backbone:
    """The backbone a bank was made with, from its spec.

    Args:
        made: the releases it was made with, to be named where it comes out otherwise.

    Raises:
        BackboneMismatch: the architecture's layers, the digest of the weights or the logits differ.
        DataError: weights that others trained are not here.
    """
    module = _structure(spec.arch, spec.input_shape, spec.classes)
    constants = constant_parameters(module, drawn={layer.name for layer in spec.layers})
    layers = _draw_layers(module, constants)
    _fill(module, spec.seed, spec.init, layers, constants)
    if spec.pretrained is not None:
        put_weights(module, find_weights(spec.pretrained), spec.arch)
    digest = _digest(module, layers)
    if digest != spec.digest or layers != spec.layers:
        raise BackboneMismatch(
            f"the bank expects backbone {spec.digest[:12]}… ({spec.arch}, {len(spec.layers)} layers), rebuilt "
            f"{digest[:12]}… ({len(layers)} layers): full digests {spec.digest} and {digest}.\n" + _other_release(made)
        )
    backbone = bind(spec, module)
    check_logits(backbone, made)
    return backbone


def _structure(arch: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network with whatever weights torch gives it; torch's own random state is left as it was."""
    family, _, name = arch.partition(":")
    with torch.random.fork_rng(devices=[]):
        if arch == LENET:
            channels, height, width = input_shape
            return LeNet300100(channels * height * width, classes)
        if (filters := filters_of(arch)) is not None:
            return small_resnet(filters, input_shape[0], classes)
        if family == "timm" and name:
            return timm_structure(name, input_shape, classes)
    raise UsageError(
        f"unknown backbone {arch!r}: expected {LENET}, {SMALL_RESNET} (for example resnet-18-nf20) or timm:NAME (for "
        "example timm:resnet18)"
    )


def _draw_layers(module: nn.Module, constants: Mapping[str, float]) -> tuple[LayerSpec, ...]:
    """The tensors drawn from the seed: Conv and Linear weights (maskable), and what else is random in the model."""
    maskable = maskable_weights(module)
    return tuple(
        LayerSpec(name=name, shape=tuple(parameter.shape), masked=name in maskable)
        for name, parameter in module.named_parameters()
        if name not in constants
    )


def _fill(
    module: nn.Module, seed: int, init: Init, layers: tuple[LayerSpec, ...], constants: Mapping[str, float]
) -> None:
    """Put the frozen weights into the module."""
    module.float()
    module.requires_grad_(False)
    module.eval()
    parameters = dict(module.named_parameters())
    for name, value in constants.items():
        parameters[name].fill_(value)
    for layer in layers:
        parameters[layer.name].copy_(torch.from_numpy(layer_weights(seed, init, layer)))


def _digest(module: nn.Module, layers: tuple[LayerSpec, ...]) -> str:
    """Of the weights that are in the module."""
    parameters = dict(module.named_parameters())
    return weights_digest((layer, parameters[layer.name].numpy()) for layer in layers)


def _try_one_image(backbone: Backbone) -> None:
    """Fail now, with words, if this architecture cannot take this input."""
    spec = backbone.spec
    try:
        with torch.no_grad():
            images = torch.zeros(2, *spec.input_shape, dtype=torch.float32)
            shape = tuple(backbone(backbone.weights, images).shape)
    except Exception as error:  # every architecture has its own way to refuse
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{spec.arch} cannot take images of shape {spec.input_shape}: {reason}") from error
    if shape != (2, spec.classes):
        raise UsageError(f"{spec.arch} gives outputs of shape {shape}, expected (2, {spec.classes})")


def _other_release(made: MadeWith | None) -> str:
    if made is None:
        return "Install the timm release the bank was made with."
    import timm

    here = f"timm {timm.__version__} and torch {torch.__version__}"
    return f"It was made with timm {made.timm} and torch {made.torch}; here are {here}."
