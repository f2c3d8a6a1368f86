"""What commands that compute have in common: the device and the data folder. Imports torch only when asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from impress_cli.options import Device
from impress_format.errors import UsageError

if TYPE_CHECKING:
    import torch


def choose_device(choice: Device) -> torch.device:
    """The device to compute on.

    Raises:
        UsageError: it is named and not there.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if choice is Device.auto:
        return torch.device(next(name for name, there in available.items() if there))
    if not available[choice.value]:
        raise UsageError(f"--device {choice.value}: torch sees none here; use --device cpu (or auto)")
    return torch.device(choice.value)


def data_folder(data_dir: Path | None) -> Path:
    """--data-dir, or its default."""
    from impress_learn.streams.sources import default_data_dir

    return data_dir if data_dir is not None else default_data_dir()
