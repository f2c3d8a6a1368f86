"""Running out of memory, said in one line: what was tried, how much it takes, what would fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from impress_format.errors import OutOfMemory

# torch raises OutOfMemoryError on a GPU, and on a CPU a RuntimeError that only its text tells from others.
_ASKED = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_CPU = "can't allocate memory"


@contextmanager
def explain_memory(what: str, device: torch.device, advice: Callable[[int], str]) -> Iterator[None]:
    """Turn torch's memory errors into OutOfMemory.

    Args:
        what: what is tried, as in "learning with batches of 4,096 images".
        advice: bytes that are free now -> what would fit.

    Raises:
        OutOfMemory: there is too little.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError) and _CPU not in str(error):
            raise
        match = _ASKED.search(str(error))
        takes = f", which takes {_size(float(match[1]) * _UNITS[match[2]])} more" if match else ""
        free = free_memory(device)
        raise OutOfMemory(
            f"out of memory on {device} in {what}{takes}; {_size(free)} are free: {advice(free)}"
        ) from error


def free_memory(device: torch.device) -> int:
    """Bytes that could be allocated now, about; 0 where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:,.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"
