"""The device that a job runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def choose_device(choose: Callable[[], torch.device] | None) -> torch.device:
    """The device that `choose` gives, or the CPU. torch is imported here."""
    if choose is not None:
        return choose()
    import torch

    return torch.device("cpu")
