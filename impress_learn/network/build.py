"""The frozen random network: structure from a name, weights from a seed (method.md, Backbone)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import msgspec
import torch
from torch import nn

from impress_format.errors import BackboneMismatch, UsageError
from impress_format.limits import MAX_WEIGHTS
from impress_format.records.fields import Init
from impress_format.records.manifest import BankManifest, MadeWith
from impress_format.records.network import LENET, BackboneSpec, LayerSpec
from impress_format.weights import layer_weights, weights_digest
from impress_learn.network.backbone import Backbone, bind
from impress_learn.network.kept_weights import find_weights
from impress_learn.network.lenet import LeNet300100, lenet_weights
from impress_learn.network.norm_statistics import statistics_apart
from impress_learn.network.parameters import (
    constant_parameters,
    drawn_layers,
    follow_swapped_weights,
    rules_of,
    rules_of_stored,
)
from impress_learn.network.pretrained import put_weights
from impress_learn.network.probe import check_logits, probe_logits
from impress_learn.network.small_resnet import SMALL_RESNET, filters_of, small_resnet
from impress_learn.network.timm_models import reason_of, timm_side, timm_structure
from impress_learn.network.trial import LEAST, Trial, try_network
from impress_learn.network.weights_file import Weights
from impress_learn.streams.view import DEFAULT_SIDE

_APART = 0.01
"""Tolerance between logits in training and in answering, relative to the largest. Rounding gave 2e-4 on 64 networks,
rows of other images half of the largest logit and more."""


def build_backbone(
    arch: str,
    *,
    init: Init,
    seed: int,
    input_shape: tuple[int, int, int],
    classes: int,
    weights: Weights | None = None,
    existing: BankManifest | None = None,
    remark: Callable[[str], None] = lambda _: None,
) -> Backbone:
    """Build `lenet-300-100`, `resnet-18-nfN` or `timm:NAME` for images of `input_shape` (channels, height, width).

    Args:
        weights: that others trained, for all but the last layer; None to draw all from the seed.
        existing: of a bank that was built with these settings: its network comes out by the rules that it was made by.
        remark: is told what of the images or of the network comes to nothing, of one that is built anew.

    Raises:
        UsageError: unknown architecture, one that cannot take this input or would cut off part of it, one whose
            BatchNorm mixes images up, or weights of another.
    """
    if existing is not None:
        stored = _stored_backbone(
            existing, arch, init=init, seed=seed, input_shape=input_shape, classes=classes, weights=weights
        )
        if stored is not None:
            return stored
    module = _running_structure(arch, input_shape, classes)
    rules = rules_of(module)
    constants = constant_parameters(module, rules)
    layers = drawn_layers(module, rules, constants)
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
        zeros=tuple(name for name in constants if name in rules.zeros),
    )
    backbone = bind(spec, module)
    _check_statistics(backbone)
    for remarked in _judge(spec, try_network(backbone)):
        remark(remarked)
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
    module = structure(spec.arch, spec.input_shape, spec.classes)
    rules = rules_of_stored(spec)
    constants = constant_parameters(module, rules)
    layers = drawn_layers(module, rules, constants)
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


def _stored_backbone(
    manifest: BankManifest,
    arch: str,
    *,
    init: Init,
    seed: int,
    input_shape: tuple[int, int, int],
    classes: int,
    weights: Weights | None,
) -> Backbone | None:
    """The backbone of a bank that was built with these settings (build_backbone), by the rules that it was made by.

    None where it was built with others, is of format version 1, or comes out otherwise here.
    """
    spec = manifest.backbone
    built_with = (spec.arch, spec.init, spec.seed, spec.input_shape, spec.classes)
    stands_on = (one and one.identity for one in (spec.pretrained, weights and weights.record()))
    if built_with != (arch, init, seed, input_shape, classes) or len(set(stands_on)) > 1 or spec.logits is None:
        return None
    try:
        return rebuild_backbone(spec, manifest.made_with)
    except BackboneMismatch:
        return None


def structure(arch: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network with whatever weights torch gives it; torch's own random state is left as it was."""
    family, _, name = arch.partition(":")
    with torch.random.fork_rng(devices=[]):
        if arch == LENET:
            channels, height, width = input_shape
            weights = lenet_weights(channels * height * width, classes)
            if weights > MAX_WEIGHTS:  # before they are allocated
                raise UsageError(
                    f"{LENET} for images of {height:,} x {width:,} has {weights:,} weights, expected at most "
                    f"{MAX_WEIGHTS:,}: give a smaller `image_size`"
                )
            return LeNet300100(channels * height * width, classes)
        if (filters := filters_of(arch)) is not None:
            return small_resnet(filters, input_shape[0], classes)
        if family == "timm" and name:
            return timm_structure(name, input_shape, classes)
    raise UsageError(
        f"unknown backbone {arch!r}: expected {LENET}, {SMALL_RESNET} (for example resnet-18-nf20) or timm:NAME (for "
        "example timm:resnet18)"
    )


def _fill(
    module: nn.Module, seed: int, init: Init, layers: tuple[LayerSpec, ...], constants: Mapping[str, float]
) -> None:
    """Put the frozen weights into the module."""
    module.float()
    module.requires_grad_(False)
    module.eval()
    follow_swapped_weights(module)
    parameters = dict(module.named_parameters())
    for name, value in constants.items():
        parameters[name].fill_(value)
    for layer in layers:
        parameters[layer.name].copy_(torch.from_numpy(layer_weights(seed, init, layer)))


def _digest(module: nn.Module, layers: tuple[LayerSpec, ...]) -> str:
    """Digest of the weights in the module."""
    parameters = dict(module.named_parameters())
    return weights_digest((layer, parameters[layer.name].numpy()) for layer in layers)


def _running_structure(arch: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A structure that takes these images.

    Raises:
        UsageError: there is none, with the nearest kind of images that it takes.
    """
    try:
        module = structure(arch, input_shape, classes)
        _try_one_image(arch, module, input_shape, classes)
    except UsageError as error:
        raise UsageError(f"{error}{_advice(arch, input_shape, classes)}") from error
    return module


def _try_one_image(arch: str, module: nn.Module, input_shape: tuple[int, int, int], classes: int) -> None:
    """Fail now, with words, if this architecture cannot take this input."""
    try:
        with torch.no_grad():
            shape = tuple(module.float().eval()(torch.zeros(2, *input_shape, dtype=torch.float32)).shape)
    except Exception as error:  # every architecture has its own way to refuse
        raise UsageError(f"{arch} cannot take images of shape {input_shape}: {reason_of(error)}") from error
    if shape != (2, classes):
        raise UsageError(f"{arch} gives outputs of shape {shape}, expected (2, {classes})")


def _advice(arch: str, input_shape: tuple[int, int, int], classes: int) -> str:
    """What kind of images the architecture takes, if not these: a line to end a message with; nothing if none is found.

    It is tried: in colours, of the size that the architecture is made for, both.
    """
    channels, height, width = input_shape
    side = usual_side(arch)
    for shape in ((3, height, width), (channels, side, side), (3, side, side)):
        if shape == input_shape:
            continue
        try:
            _try_one_image(arch, structure(arch, shape, classes), shape, classes)
        except UsageError:
            continue
        ways = ["`image_mode` RGB"] if shape[0] != channels else []
        ways += [f"`image_size` {side}"] if shape[1:] != (height, width) else []
        return f".\nIt takes images of shape {shape}: give {' and '.join(ways)}"
    return ""


def _check_statistics(backbone: Backbone) -> None:
    """Refuse a network that would be trained under other BatchNorm statistics than it answers with."""
    if statistics_apart(backbone) <= _APART:
        return
    # Norms of few values enlarge rounding; in float64 nothing is left of it, and all of a mistake.
    exactly = bind(backbone.spec, copy.deepcopy(backbone.module).double())
    if (apart := statistics_apart(exactly)) > _APART:
        raise UsageError(
            f"{backbone.spec.arch} cannot be trained here: its BatchNorm takes rows that are not those of one image "
            f"after the other (logits in training are {apart:.2g} of the largest from those it would answer with)"
        )


def _judge(spec: BackboneSpec, trial: Trial) -> Iterator[str]:
    """What is to be said of a network that was tried.

    Raises:
        UsageError: it cuts off part of every image, or looks at none of it.
    """
    if not bool(trial.seen.any()):
        raise UsageError(f"{spec.arch}: no logit depends on an image of shape {spec.input_shape}")
    top, bottom, left, right = trial.cut_off
    _, height, width = spec.input_shape
    kept = (height - top - bottom, width - left - right)
    sees = f"{kept[0]} × {kept[1]} of {height} × {width} pixels, " if kept != (height, width) else ""
    sees += f"{trial.share:.1%} of all"
    if kept != (height, width) and trial.share < LEAST:
        advice = ""
        if kept[0] == kept[1]:
            usual = usual_side(spec.arch)
            advice = f".\nGive `image_size` {kept[0]}, or a larger one that they fill; it is made for {usual}"
        raise UsageError(
            f"{spec.arch} cannot take images of shape {spec.input_shape}: its patches do not fill them, so that it "
            f"would see {sees}{advice}"
        )
    if trial.share < 1:
        yield f"{spec.arch} does not see the whole image: {sees}"
    if trial.idle:
        names = ", ".join(trial.idle[:2]) + (", …" if len(trial.idle) > 2 else "")
        yield (
            f"{len(trial.idle):,} of the {len(spec.masked_layers):,} layers of {spec.arch} get no gradient ({names}): "
            "no mask or coefficient there can learn"
        )


def _other_release(made: MadeWith | None) -> str:
    if made is None:
        return "Install the timm release the bank was made with."
    import timm

    here = f"timm {timm.__version__} and torch {torch.__version__}"
    return f"It was made with timm {made.timm} and torch {made.torch}; here are {here}."
