"""The same bits on every x86-64 machine: which instructions torch computes with, settled before it is imported.

ATen, MKL and oneDNN choose instructions by the processor, so that sums end in other last bits on another one; a bank is
trained on these for thousands of steps. Held to AVX2 all three, and MKL to the order of sums that it calls compatible,
Intel's and AMD's processors gave one mask (docs/results/machines.md, The same bits on every machine).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from impress_format.bank import Bank, open_bank
from impress_format.errors import UsageError
from impress_format.records.manifest import Instructions
from impress_learn.progress import Progress
from impress_learn.running.device import Device, Workers, choose_device
from impress_learn.training.config import require

if TYPE_CHECKING:
    import torch

INSTRUCTIONS: Instructions = "avx2"
"""What a bank that was made so says in `made_with`."""
VARIABLES: Mapping[str, str] = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
"""Environment variables. torch reads its own when it is imported, the libraries theirs when they are first called."""


def pin_instructions() -> None:
    """Have torch compute in this process, and in those that it starts, as on every x86-64 machine with AVX2.

    Raises:
        UsageError: the processor is another, or torch was imported before without these variables.
    """
    machine = platform.machine()
    require(
        machine.lower() in {"x86_64", "amd64"},
        f"`reproducible` computes with AVX2, which x86-64 processors have; this one is {machine}",
    )
    if "torch" in sys.modules and any(os.environ.get(name) != value for name, value in VARIABLES.items()):
        settings = " ".join(f"{name}={value}" for name, value in VARIABLES.items())
        raise UsageError(f"`reproducible` is settled before torch is imported, and it was: set {settings} before")
    os.environ.update(VARIABLES)


def choose_instructions(existing: Bank | None, *, reproducible: bool) -> Instructions | None:
    """What a bank is computed with on every machine, which this process is held to from now on; None for what it has.

    Args:
        existing: that is gone on with, as it was begun.
        reproducible: whether it is asked for.

    Raises:
        UsageError: as pin_instructions.
    """
    if not reproducible and (existing is None or not is_reproducible(existing)):
        return None
    pin_instructions()
    return INSTRUCTIONS


def check_instructions(chosen: Instructions | None, workers: Workers, device: torch.device) -> None:
    """Refuse to train in another way than the same on every machine, where that was chosen.

    Raises:
        UsageError: the device is no CPU, its processor has no AVX2, or workers of a cluster would train.
    """
    if chosen is None:
        return
    import torch

    require(device.type == "cpu", f"`reproducible` is of a CPU: leave out `device` {device.type}")
    require(
        workers.engine == "local",
        "`reproducible` is settled before torch is imported, which workers of a cluster do by themselves: leave out "
        "`engine` ray",
    )
    found = torch.backends.cpu.get_cpu_capability()
    require(
        found == "AVX2", f"`reproducible` computes with AVX2, and torch with {found} here: it is of a machine with AVX2"
    )


def is_reproducible(bank: Bank) -> bool:
    """Whether a bank was made with the same instructions as on every machine."""
    return bank.manifest.instructions == INSTRUCTIONS


def open_to_learn(path: Path | str, progress: Progress) -> Bank:
    """Open a bank, and compute as it was made, if that is the same on every machine. Where it cannot be, that is told.

    Raises:
        As open_bank.
    """
    bank = open_bank(path)
    if not is_reproducible(bank):
        return bank
    try:
        pin_instructions()
    except UsageError as error:
        progress.remark(
            f"{bank.path} came out the same on every machine, and what is learned now need not: {str(error)[0].lower()}"
            f"{str(error)[1:]}"
        )
    return bank


def choose_learning_device(
    bank: Bank, device: Device, progress: Progress, *, engine: Literal["local", "ray"] = "local"
) -> torch.device:
    """The device that is meant. A remark says where what is learned there may differ between machines.

    Args:
        engine: whose workers learn: those of a cluster import torch by themselves.

    Raises:
        UsageError: as choose_device.
    """
    chosen = choose_device(device)
    if is_reproducible(bank) and (chosen.type != "cpu" or engine != "local"):
        where = f"on {chosen.type}" if engine == "local" else "by workers of a cluster"
        progress.remark(f"{bank.path} came out the same on every machine, and what is learned {where} need not")
    return chosen
