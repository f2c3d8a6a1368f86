"""What a process computes with: the releases and the instructions that the last bits of a result depend on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from impress_format.records.training import Elsewhere


def this_machine(device: str) -> Elsewhere:
    """What this process has. Imports torch and timm.

    Args:
        device: that it computes on, as torch calls it.
    """
    import numpy
    import PIL
    import timm
    import torch

    import impress_format

    return Elsewhere(
        impress=impress_format.__version__,
        torch=str(torch.__version__),
        timm=str(timm.__version__),
        numpy=numpy.__version__,
        pillow=PIL.__version__,
        cpu=f"{_vendor()} {torch.backends.cpu.get_cpu_capability()}",
        gpu=torch.cuda.get_device_name() if device.startswith("cuda") else "",
    )


def _vendor() -> str:
    """Who made the processor: matrix products choose other instructions by it (MKL)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("vendor_id", "CPU implementer")))
    return next(named, platform.machine())


def differences(ours: Elsewhere, theirs: Elsewhere) -> Mapping[str, tuple[str, str]]:
    """What differs: ours and theirs, by name."""
    pairs = {name: (getattr(ours, name), getattr(theirs, name)) for name in Elsewhere.__struct_fields__}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
