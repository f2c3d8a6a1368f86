"""`impress streams` and `impress doctor`."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from impress_cli import __version__, render
from impress_cli.shared import Data, Output, command
from impress_learn.streams.table import STREAMS

_KEYS = {"folder": "PATH", "dataset": "NAME"}
"""What stands for the key of a stream whose keys are no numbers."""


@command
def streams(output: Output) -> None:
    """The streams of tasks there are, and the keys each takes.

    Example: impress streams
    """
    if output.json:
        rows = [
            {
                "name": stream.name,
                "summary": stream.summary,
                "keys": stream.keys,
                "input_shape": list(stream.input_shape) if stream.input_shape else None,
                "classes": stream.classes,
                "needs": stream.needs,
            }
            for stream in STREAMS.values()
        ]
        render.print_json({"streams": rows})
        return
    render.print_table(
        "Streams: name a task STREAM/KEY, several STREAM/START:STOP:STEP, a folder folder:PATH",
        ("stream", "what", "keys", "needs"),
        [
            (
                stream.name,
                stream.summary,
                _KEYS[stream.name] if stream.keys is None else f"0..{stream.keys - 1}",
                stream.needs,
            )
            for stream in STREAMS.values()
        ],
        text_columns=4,
    )


@command
def doctor(data: Data, output: Output) -> None:
    """What this installation has: versions, devices, data. For bug reports.

    Example: impress doctor
    """
    import torch

    facts = {
        "impress": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": str(os.cpu_count()),
        **{name: _version(name) for name in ("torch", "torchvision", "timm", "safetensors", "zstandard", "numpy")},
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "mps": "yes" if torch.backends.mps.is_available() else "none",
        **_data(data.data_dir),
    }
    if output.json:
        render.print_json(facts)
    else:
        render.print_table("This installation", ("what", "found"), list(facts.items()), text_columns=2)


def _data(data_dir: Path | None) -> dict[str, str]:
    """Where data sets are looked for, and whether MNIST is there, whole and the published one."""
    from impress_format.errors import DataError
    from impress_learn.streams.data_dir import default_data_dir
    from impress_learn.streams.mnist import find_mnist, mnist_problem

    try:
        folder = data_dir or default_data_dir()
    except DataError as error:
        return {"data_dir": f"none: {error}", "mnist": "not there"}
    raw = find_mnist(folder)
    return {"data_dir": str(folder), "mnist": "not there" if raw is None else mnist_problem(raw) or "there"}


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
