"""The device that is computed on, however it is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from impress_format.errors import UsageError
from impress_learn.training.config import check_number

if TYPE_CHECKING:
    import torch

OneDevice: TypeAlias = "Callable[[], torch.device] | torch.device | str | None"
"""A torch device, what torch calls it, `auto` for the fastest that torch sees, or a function that gives it, called when
it is needed; None for the CPU."""


_MOST_WORKERS = 1024


@dataclass(frozen=True)
class Workers:
    """Several processes that train side by side, each a mask or a few tasks at a time, in one thread.

    Files come out as those of one process do that has one thread (`OMP_NUM_THREADS=1`): on some machines more threads
    give other last bits.

    Attributes:
        count: how many.
        device: that each computes on, as OneDevice has it.

    Example:
        >>> from impress_learn import Workers, create_bank
        >>> bank = create_bank("two.impress", ["rotated-digits/0", "rotated-digits/90"], device=Workers(2))
        >>> len(bank.manifest.masks)
        2
    """

    count: int
    device: OneDevice = None


Device: TypeAlias = "Callable[[], torch.device] | torch.device | str | Workers | None"
"""As OneDevice; or Workers, where masks or tasks are trained."""


def choose_device(device: Device) -> torch.device:
    """The device that is meant. torch is imported here.

    Raises:
        UsageError: torch knows none of this name, or does not see one here.
    """
    import torch

    if isinstance(device, Workers):
        return choose_device(device.device)
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


def compute_deterministically() -> None:
    """Have a GPU give the same result every time, some steps slower."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before cuBLAS is first used
    torch.use_deterministic_algorithms(True)


def count_workers(device: Device) -> int:
    """How many processes train.

    Raises:
        UsageError: fewer than one, or more than 1,024.
    """
    if not isinstance(device, Workers):
        return 1
    check_number("workers", device.count, least=1, most=_MOST_WORKERS)
    return device.count
