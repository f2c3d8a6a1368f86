"""What a process computes with: the releases and the instructions that the last bits of a result depend on."""

from __future__ import annotations

from collections.abc import Mapping

from impress_format.records.training import Elsewhere


def this_machine() -> Elsewhere:
    """Of this process. Imports torch and timm."""
    import numpy
    import timm
    import torch

    import impress_format

    return Elsewhere(
        impress=impress_format.__version__,
        torch=str(torch.__version__),
        timm=str(timm.__version__),
        numpy=numpy.__version__,
        cpu=torch.backends.cpu.get_cpu_capability(),
    )


def differences(ours: Elsewhere, theirs: Elsewhere) -> Mapping[str, tuple[str, str]]:
    """What differs: ours and theirs, by name."""
    pairs = {name: (getattr(ours, name), getattr(theirs, name)) for name in Elsewhere.__struct_fields__}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
