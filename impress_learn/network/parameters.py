"""What each parameter of a network is: a weight that carries masks, another that is drawn, or a constant."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from impress_format.records.network import BackboneSpec, LayerSpec

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_EXPERTS = "CondConv2d"
"""timm's class, by name: its weight is a row an expert. timm is not imported for networks that are not of it."""
_AT_ZERO = ("beta", "tau")
"""Names of vectors that shift what passes (ResMLP's `Affine`) or bound it from below (filter response norm), as biases
and ReLU do: at 1 they would move every channel."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Rules:
    """What a network's parameters are.

    Attributes:
        maskable: names of weights that carry masks, each with `acts_as` of LayerSpec.
        zeros: names of constants that hold 0 and are no biases.
    """

    maskable: Mapping[str, Shape | None]
    zeros: Container[str]


def rules_of(module: nn.Module) -> Rules:
    """Those for a new bank."""
    parameters = module.named_parameters()
    zeros = {name for name, one in parameters if _is_vector(one) and name.rpartition(".")[2] in _AT_ZERO}
    return Rules(maskable_weights(module), zeros)


def rules_of_stored(spec: BackboneSpec) -> Rules:
    """Those that a stored bank was made by: older releases masked fewer layers, and had no zeros but biases.

    Maskable weights of one output or one channel that version 1 does not name follow as constants.
    """
    return Rules({layer.name: layer.acts_as for layer in spec.masked_layers}, spec.zeros)


def maskable_weights(module: nn.Module) -> dict[str, Shape | None]:
    """Names of the weights that can carry masks, each with the shape of the convolution that it acts as (LayerSpec).

    They are those of Linear layers, convolutions, transposed convolutions, recurrent layers, and banks of experts that
    convolutions are mixed from (CondConv).
    """
    return {
        f"{path}.{name}" if path else name: acts_as
        for path, layer in module.named_modules()
        for name, acts_as in _weights_of(layer)
    }


def _weights_of(layer: nn.Module) -> Iterator[tuple[str, Shape | None]]:
    if isinstance(layer, (nn.Linear, *_CONVOLUTIONS)):
        yield "weight", None
    elif isinstance(layer, _TRANSPOSED):
        # Each output sees every stride-th weight of the kernel, from each input.
        seen = (-(-side // step) for side, step in zip(layer.kernel_size, layer.stride, strict=True))
        yield "weight", (layer.out_channels, layer.in_channels // layer.groups, *seen)
    elif isinstance(layer, nn.RNNBase):
        yield from ((name, None) for name, _ in layer.named_parameters(recurse=False) if "weight" in name)
    elif type(layer).__name__ == _EXPERTS:
        experts, _ = layer.get_parameter("weight").shape
        outputs, *rest = cast(Shape, layer.weight_shape)
        yield "weight", (experts * outputs, *rest)


def constant_parameters(module: nn.Module, rules: Rules) -> dict[str, float]:
    """Parameters that hold one constant: biases and other shifts 0, and 1 for norms, gains, layer scales, temperatures.

    What is left to be drawn besides maskable weights are tokens, embeddings and other matrices. Layer scale is
    opened from its usual 1e-6 because it is never trained here: it would shut every block.
    """
    constants: dict[str, float] = {}
    for path, layer in module.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            if "bias" in name:
                constants[full] = 0.0
            elif full in rules.maskable:
                continue
            elif isinstance(layer, _NORMS) or (_is_vector(parameter) and not _is_embedding(name)):
                constants[full] = 0.0 if full in rules.zeros else 1.0
    return constants


def drawn_layers(module: nn.Module, rules: Rules, constants: Container[str]) -> tuple[LayerSpec, ...]:
    """The tensors drawn from the seed, in module order: maskable weights, and what else is random in the model."""
    return tuple(
        LayerSpec(
            name=name,
            shape=tuple(parameter.shape),
            masked=name in rules.maskable,
            acts_as=rules.maskable.get(name),
        )
        for name, parameter in module.named_parameters()
        if name not in constants
    )


def follow_swapped_weights(module: nn.Module) -> None:
    """Let recurrent layers compute with the weights that a call gives them, and hold none of them afterwards.

    They keep a list of their weights. torch makes it anew where it finds that they changed, and goes on holding what a
    call gave (seen in 2.14.1); here each call makes the list and empties it.
    """
    for layer in module.modules():
        if isinstance(layer, nn.RNNBase):
            layer.register_forward_pre_hook(_list_weights)
            layer.register_forward_hook(_forget_weights, always_call=True)
            _forget_weights(layer)


def is_recurrent(module: nn.Module) -> bool:
    """Whether it has layers of which torch computes one set of weights at a time: neither `vmap` nor sums of products
    go through them.
    """
    return any(isinstance(layer, nn.RNNBase) for layer in module.modules())


def _list_weights(layer: nn.Module, _: object) -> None:
    assert isinstance(layer, nn.RNNBase)
    layer._flat_weights = [getattr(layer, name) for name in layer._flat_weights_names]


def _forget_weights(layer: nn.Module, *_: object) -> None:
    """What a call gave is not kept beyond it, nor copied with the module."""
    assert isinstance(layer, nn.RNNBase)
    layer._flat_weights = [None] * len(layer._flat_weights_names)


def _is_vector(parameter: Tensor) -> bool:
    """One number, or one a channel, whatever axes of length 1 stand around it."""
    return parameter.numel() == max(parameter.shape, default=1)


def _is_embedding(name: str) -> bool:
    return any(word in name for word in ("token", "embed", "latent"))
