"""timm's habits: how its models are built for an input size."""

from __future__ import annotations

import traceback
import warnings
from typing import Any

from torch import nn

from impress_format.errors import UsageError

_USUAL_SIDE = 224


def timm_structure(name: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return _build(name, input_shape, classes)[0]


def timm_settings(name: str, input_shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Arguments with which `timm.create_model(name, ...)` builds what `timm_structure` gives.

    Whether `img_size` is one of them only building tells: timm has no list of the models that take it.

    Args:
        input_shape: channels, height, width of the images.

    Raises:
        UsageError: there is no such model, or it cannot be built for these images.
    """
    return _build(name, input_shape, classes)[1]


def _build(name: str, input_shape: tuple[int, int, int], classes: int) -> tuple[nn.Module, dict[str, Any]]:
    import difflib

    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise UsageError(f"timm {timm.__version__} has no model {name!r}: {hint}")
    settings: dict[str, Any] = {"pretrained": False, "num_classes": classes, "in_chans": input_shape[0]}
    sized = {**settings, "img_size": tuple(input_shape[1:])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:  # vision transformers fix their input size when built; convolutional networks have no such argument
            model = timm.create_model(name, **sized)
            settings = sized
        except Exception:
            try:
                model = timm.create_model(name, **settings)
            except Exception as error:  # every architecture has its own way to refuse
                raise UsageError(
                    f"timm:{name} cannot be built for images of shape {input_shape}: {reason_of(error)}"
                ) from error
    return model, settings


def timm_side(name: str) -> int:
    """Height and width of images that a model is made for, by timm's own account."""
    import timm

    settings = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return int(settings.input_size[-1]) if settings else _USUAL_SIDE


def reason_of(error: Exception) -> str:
    """Why a network refused, in a line: its message, or else what it asserts."""
    if message := str(error).strip():
        return message.splitlines()[0].rstrip(".")
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.line]
    asserted = [line for line in lines if not line.startswith("raise ")]
    return f"`{asserted[-1]}` fails" if asserted else type(error).__name__
