"""The device that is computed on, however it is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Literal, TypeAlias

from impress_format.errors import UsageError
from impress_learn.training.config import check_number, require

if TYPE_CHECKING:
    import torch

OneDevice: TypeAlias = "Callable[[], torch.device] | torch.device | str | None"
"""A torch device, what torch calls it, `auto` for the fastest that torch sees, or a function that gives it, called when
it is needed; None for the CPU."""


_LEAST_GPU = 0.0001
"""Ray counts in ten-thousandths."""
_MOST_WORKERS = {"local": 1_024, "ray": 65_536}


@dataclass(frozen=True)
class Workers:
    """Several processes that train side by side, each a mask or a few tasks at a time: of this machine, or over Ray.

    Files come out as those of one process do, whose trainings have as many threads.

    Attributes:
        count: how many; None for as many as a Ray cluster has room for.
        device: that each computes on, as OneDevice has it.
        engine: `local` for processes of this machine, `ray` for a Ray cluster (docs/cluster.md).
        ray_address: of the cluster, HOST:PORT; None for $RAY_ADDRESS, or the one that this machine belongs to.
        gpus_per_worker: that each worker of a cluster is given, also a part of one; they then compute on it, else on a
            CPU, whatever `device` is.
        mixed: have workers train too that have other releases of torch, timm, numpy or Pillow, or another processor or
            GPU, and record these in what they make. Else they are refused: results would differ in their last bits.

    Examples:
        >>> from impress_learn import Workers, create_bank
        >>> bank = create_bank("two.impress", ["rotated-digits/0", "rotated-digits/90"], device=Workers(2))
        >>> len(bank.manifest.masks)
        2
    """

    count: int | None = None
    device: OneDevice = None
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    gpus_per_worker: float = 0.0
    mixed: bool = False


Device: TypeAlias = "Callable[[], torch.device] | torch.device | str | Workers | None"
"""As OneDevice; or Workers, where masks or tasks are trained."""


def choose_device(device: Device) -> torch.device:
    """The device that is meant. torch is imported here.

    Raises:
        UsageError: torch knows none of this name, or does not see one here; or these are workers of a cluster.
    """
    import torch

    if isinstance(device, Workers):
        require(device.engine == "local", "`engine` ray: workers of a cluster train masks and new tasks, nothing else")
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


def settle_workers(device: Device) -> Workers:
    """Who trains: this process alone, where nobody says otherwise.

    Raises:
        UsageError: fewer workers than one, or too many; no such engine, or what only a cluster has.
    """
    if not isinstance(device, Workers):
        return Workers(1, device)
    require(device.engine in _MOST_WORKERS, f"`engine` {device.engine}: expected local or ray")
    check_number("workers", device.count, least=1, most=_MOST_WORKERS[device.engine])
    gpus = device.gpus_per_worker
    require(gpus == 0 or _LEAST_GPU <= gpus < inf, f"`gpus_per_worker` {gpus}: expected 0, or {_LEAST_GPU} or more")
    require(gpus < 1 or gpus == int(gpus), f"`gpus_per_worker` {gpus}: expected a whole number, or a part of one GPU")
    if device.engine == "local":
        given = {"ray_address": device.ray_address is not None, "gpus_per_worker": gpus, "mixed": device.mixed}
        for name in (name for name, is_given in given.items() if is_given):
            raise UsageError(f"`{name}` needs a cluster: give `engine` ray too")
        return replace(device, count=device.count or 1)
    return device


@contextmanager
def in_threads(count: int) -> Iterator[None]:
    """Within it torch computes in `count` threads on a CPU: sums in another number of them end in other last bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
