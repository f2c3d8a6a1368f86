"""The device that is computed on, however it is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from impress_format.errors import UsageError

if TYPE_CHECKING:
    import torch

Device: TypeAlias = "Callable[[], torch.device] | torch.device | str | None"
"""A torch device, what torch calls it, `auto` for the fastest that torch sees, or a function that gives it, called when
it is needed; None for the CPU."""


def choose_device(device: Device) -> torch.device:
    """The device that is meant. torch is imported here.

    Raises:
        UsageError: torch knows none of this name, or does not see one here.
    """
    import torch

    if device is None:
        return torch.device("cpu")
    if device == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    if callable(device):
        return device()
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"`device` {device}: expected auto, cpu, cuda, cuda:NUMBER or mps") from error
    if (found.type == "cuda" and not torch.cuda.is_available()) or (
        found.type == "mps" and not torch.backends.mps.is_available()
    ):
        raise UsageError(f"`device` {device}: torch sees none on this machine")
    return found
