"""The frozen random network: structure from a name, weights from a seed (method.md, Backbone)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from impress_format.errors import BackboneMismatch, UsageError
from impress_format.records import BackboneSpec, Init, LayerSpec
from impress_format.weights import layer_weights, weights_digest

LENET = "lenet-300-100"
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Backbone:
    """A frozen network.

    Attributes:
        spec: what rebuilds it.
        module: the structure; parameters hold the random weights and never change.
        weights: the maskable weights by name, in module order, float32.
    """

    spec: BackboneSpec
    module: nn.Module
    weights: dict[str, Tensor]

    def __call__(self, effective: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits (batch, classes) of normalised images (batch, *input_shape) under effective weights.

        BatchNorm normalises by the statistics that `calibrate` put beside the weights, else by those of the batch.
        """
        if self.norms:
            calibrated = f"{self.norms[0]}.running_mean" in effective
            for path in self.norms:
                self.module.get_submodule(path).train(not calibrated)
        logits: Tensor = functional_call(self.module, dict(effective), (images,))
        return logits

    @cached_property
    def norms(self) -> tuple[str, ...]:
        """Names of the BatchNorm layers."""
        return tuple(path for path, layer in self.module.named_modules() if isinstance(layer, _BATCH_NORMS))

    @property
    def has_batch_norm(self) -> bool:
        return bool(self.norms)

    def to(self, device: torch.device) -> Backbone:
        """The same network on `device`; this one stays where it is."""
        if all(weight.device == device for weight in self.weights.values()):
            return self
        return _backbone(self.spec, copy.deepcopy(self.module).to(device))


def build_backbone(arch: str, *, init: Init, seed: int, input_shape: tuple[int, int, int], classes: int) -> Backbone:
    """Build `lenet-300-100` or `timm:NAME` for images of `input_shape` (channels, height, width).

    Raises:
        UsageError: unknown architecture, or one that cannot take this input.
    """
    module = _structure(arch, input_shape, classes)
    layers = _draw_layers(module)
    digest = _fill(module, seed, init, layers)
    spec = BackboneSpec(
        arch=arch, init=init, seed=seed, input_shape=input_shape, classes=classes, layers=layers, digest=digest
    )
    backbone = _backbone(spec, module)
    _try_one_image(backbone)
    return backbone


def rebuild_backbone(spec: BackboneSpec) -> Backbone:
    """The backbone a bank was made with, from its spec.

    Raises:
        BackboneMismatch: the architecture's layers or the digest of the weights differ.
    """
    module = _structure(spec.arch, spec.input_shape, spec.classes)
    layers = _draw_layers(module)
    digest = _fill(module, spec.seed, spec.init, layers)
    if digest != spec.digest or layers != spec.layers:
        raise BackboneMismatch(
            f"the bank expects backbone {spec.digest[:12]}… ({spec.arch}, {len(spec.layers)} layers), rebuilt "
            f"{digest[:12]}… ({len(layers)} layers): full digests {spec.digest} and {digest}.\n"
            "Install the timm release the bank was made with."
        )
    return _backbone(spec, module)


def check_batch_size(backbone: Backbone, batch_size: int) -> None:
    """Raises UsageError if training on batches of this size cannot work with this network."""
    if backbone.has_batch_norm and batch_size < 2:
        raise UsageError(
            f"`batch_size` {batch_size}: {backbone.spec.arch} has BatchNorm, which needs at least 2 images"
        )


def calibrate(backbone: Backbone, effective: Mapping[str, Tensor], images: Tensor | None) -> Mapping[str, Tensor]:
    """The effective weights with BatchNorm statistics of `images` (batch, *input_shape) sent through them.

    With these the network answers for one image alone, as it does for a batch (method.md, Norm layers). Without
    images, for a network that needs none, the weights as they are.
    """
    if images is None:
        return effective
    buffers = dict(backbone.module.named_buffers())
    statistics = {
        f"{path}.{kind}": torch.full_like(buffers[f"{path}.{kind}"], start)
        for path in backbone.norms
        for kind, start in (("running_mean", 0.0), ("running_var", 1.0), ("num_batches_tracked", 0))
    }
    for path in backbone.norms:
        backbone.module.get_submodule(path).train()
    with torch.no_grad():
        functional_call(backbone.module, {**effective, **statistics}, (images,))  # fills the statistics in place
    return {**effective, **statistics}


class LeNet300100(nn.Module):
    """784-300-100-C with ReLU and no bias (LeCun et al. 1998; 266,200 weights for C = 10)."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, 300, bias=False)
        self.fc2 = nn.Linear(300, 100, bias=False)
        self.fc3 = nn.Linear(100, classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.fc1(images.flatten(1)))
        logits: Tensor = self.fc3(torch.relu(self.fc2(hidden)))
        return logits


def _structure(arch: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network with whatever weights torch gives it; torch's own random state is left as it was."""
    family, _, name = arch.partition(":")
    with torch.random.fork_rng(devices=[]):
        if arch == LENET:
            channels, height, width = input_shape
            return LeNet300100(channels * height * width, classes)
        if family == "timm" and name:
            return _timm_structure(name, input_shape, classes)
    raise UsageError(f"unknown backbone {arch!r}: expected {LENET} or timm:NAME (for example timm:resnet18)")


def _timm_structure(name: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    import difflib

    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise UsageError(f"timm {timm.__version__} has no model {name!r}: {hint}")
    settings: dict[str, Any] = {"pretrained": False, "num_classes": classes, "in_chans": input_shape[0]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:  # vision transformers fix their input size when built; convolutional networks have no such argument
            model = timm.create_model(name, img_size=input_shape[1:], **settings)
        except Exception:
            try:
                model = timm.create_model(name, **settings)
            except Exception as error:  # every architecture has its own way to refuse
                raise UsageError(f"timm:{name} cannot be built for images of shape {input_shape}: {error}") from error
    _check_patches(name, model, input_shape)
    return model


def _check_patches(name: str, model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """timm cuts off what does not fill a patch without a word; that would hide part of every image."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple) and any(side % p for side, p in zip(input_shape[1:], patch, strict=False)):
        raise UsageError(
            f"timm:{name} cannot take images of shape {input_shape}: its patches are {patch[0]}×{patch[-1]}"
        )


def _draw_layers(module: nn.Module) -> tuple[LayerSpec, ...]:
    """The tensors drawn from the seed: Conv and Linear weights (maskable), and what else is random in the model."""
    constants = _constants(module)
    maskable = {
        f"{path}.weight" if path else "weight"
        for path, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
    }
    return tuple(
        LayerSpec(name=name, shape=tuple(parameter.shape), masked=name in maskable)
        for name, parameter in module.named_parameters()
        if name not in constants
    )


def _constants(module: nn.Module) -> dict[str, float]:
    """Parameters that hold one constant: biases 0, and 1 for norms, gains, layer scales, temperatures.

    What is left to be drawn besides maskable weights are tokens, embeddings and other matrices. Layer scale is
    opened from its usual 1e-6 because it is never trained here: it would shut every block.
    """
    constants: dict[str, float] = {}
    for path, layer in module.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            if "bias" in name:
                constants[full] = 0.0
            elif isinstance(layer, _NORMS) or (_is_vector(parameter) and not _is_embedding(name)):
                constants[full] = 1.0
    return constants


def _is_vector(parameter: Tensor) -> bool:
    """One number, or one a channel, whatever axes of length 1 stand around it."""
    return parameter.numel() == max(parameter.shape, default=1)


def _is_embedding(name: str) -> bool:
    return any(word in name for word in ("token", "embed", "latent"))


def _fill(module: nn.Module, seed: int, init: Init, layers: tuple[LayerSpec, ...]) -> str:
    """Put the frozen weights into the module, and return the digest of what is in it then."""
    module.float()
    module.requires_grad_(False)
    module.eval()
    parameters = dict(module.named_parameters())
    for name, value in _constants(module).items():
        parameters[name].fill_(value)
    for layer in layers:
        parameters[layer.name].copy_(torch.from_numpy(layer_weights(seed, init, layer)))
    return weights_digest((layer, parameters[layer.name].numpy()) for layer in layers)


def _backbone(spec: BackboneSpec, module: nn.Module) -> Backbone:
    parameters = dict(module.named_parameters())
    weights = {layer.name: parameters[layer.name].data for layer in spec.masked_layers}
    for layer in module.modules():
        if isinstance(layer, _BATCH_NORMS):
            layer.momentum = None  # cumulative average: after one batch, its mean and its variance with N - 1
    return Backbone(spec=spec, module=module, weights=weights)


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
