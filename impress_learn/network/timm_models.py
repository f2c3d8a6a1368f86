"""timm's habits: how its models are built for an input size, and which of their parameters hold a constant."""

from __future__ import annotations

import warnings
from collections.abc import Container
from typing import Any

from torch import Tensor, nn

from impress_format.errors import UsageError

_USUAL_SIDE = 224
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def timm_structure(name: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
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


def timm_side(name: str) -> int:
    """Height and width of images that a model is made for, by timm's own account."""
    import timm

    settings = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return int(settings.input_size[-1]) if settings else _USUAL_SIDE


def _check_patches(name: str, model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """timm cuts off what does not fill a patch without a word; that would hide part of every image."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple) and any(side % p for side, p in zip(input_shape[1:], patch, strict=False)):
        raise UsageError(
            f"timm:{name} cannot take images of shape {input_shape}: its patches are {patch[0]}×{patch[-1]}"
        )


def maskable_weights(module: nn.Module) -> set[str]:
    """Names of the weights that carry masks: those of Conv and Linear layers."""
    return {
        f"{path}.weight" if path else "weight"
        for path, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
    }


def constant_parameters(module: nn.Module, drawn: Container[str] | None = None) -> dict[str, float]:
    """Parameters that hold one constant: biases 0, and 1 for norms, gains, layer scales, temperatures.

    What is left to be drawn besides maskable weights are tokens, embeddings and other matrices. Layer scale is
    opened from its usual 1e-6 because it is never trained here: it would shut every block.

    Args:
        drawn: names of all that the bank draws. Banks of version 1 kept maskable weights of one output or one channel
            at 1, and do not name them.
    """
    constants: dict[str, float] = {}
    maskable = maskable_weights(module)
    for path, layer in module.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            if "bias" in name:
                constants[full] = 0.0
            elif full in maskable and (drawn is None or full in drawn):
                continue
            elif isinstance(layer, _NORMS) or (_is_vector(parameter) and not _is_embedding(name)):
                constants[full] = 1.0
    return constants


def _is_vector(parameter: Tensor) -> bool:
    """One number, or one a channel, whatever axes of length 1 stand around it."""
    return parameter.numel() == max(parameter.shape, default=1)


def _is_embedding(name: str) -> bool:
    return any(word in name for word in ("token", "embed", "latent"))
