"""What is said after a long training that left cores of the machine idle."""

from __future__ import annotations

import os
import time

from impress_cli import render
from impress_cli.shared import Compute, DeviceChoice, Engine, Output, Spread

_LONG = 60.0
"""Seconds from which on it is worth saying."""


def idle_cores(seconds: float, threads: int, spread: Spread, compute: Compute) -> str | None:
    """How the same could have been done faster; None where nothing is to be said.

    Args:
        seconds: that it took.
        threads: of one training.
    """
    if seconds < _LONG or spread.engine is Engine.ray or compute.device not in (DeviceChoice.auto, DeviceChoice.cpu):
        return None
    import torch

    if compute.device is DeviceChoice.auto and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    used = threads * (spread.workers or 1)
    if used >= cores:
        return None
    return (
        f"this took {seconds:,.0f} s on {used} of {cores} cores: --workers {cores} trains as many masks or tasks side "
        f"by side, --threads {cores} is faster where one is of a large network (and gives other last bits)"
    )


def say_idle_cores(started: float, threads: int, spread: Spread, compute: Compute, output: Output) -> None:
    """Say so after a command that began at `started`, by time.perf_counter."""
    if (text := idle_cores(time.perf_counter() - started, threads, spread, compute)) is not None:
        render.remark(text, quiet=output.quiet)
