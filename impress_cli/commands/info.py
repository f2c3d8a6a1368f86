"""`impress streams` and `impress doctor`."""

from __future__ import annotations

import os
import platform
import sys

from impress_cli import __version__, options, render
from impress_learn.streams.catalog import STREAMS


def streams(json: options.Json = False, quiet: options.Quiet = False, debug: options.Debug = False) -> None:
    """The streams of tasks there are, and the keys each takes."""
    if json:
        rows = [
            {
                "name": info.name,
                "summary": info.summary,
                "keys": info.keys,
                "input_shape": list(info.input_shape),
                "classes": info.classes,
                "needs": info.needs,
            }
            for info in STREAMS.values()
        ]
        render.print_json({"streams": rows})
        return
    render.print_table(
        "Streams: name a task STREAM/KEY, several STREAM/START:STOP:STEP",
        ("stream", "what", "keys", "needs"),
        [(info.name, info.summary, f"0..{info.keys - 1}", info.needs) for info in STREAMS.values()],
        text_columns=4,
    )


def doctor(
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """What this installation has: versions, devices, data. For bug reports."""
    import torch

    from impress_cli.runtime import data_folder

    folder = data_folder(data_dir)
    facts = {
        "impress": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": str(os.cpu_count()),
        **{name: _version(name) for name in ("torch", "torchvision", "timm", "safetensors", "zstandard", "numpy")},
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "mps": "yes" if torch.backends.mps.is_available() else "none",
        "data_dir": str(folder),
        "mnist": "there" if (folder / "MNIST" / "raw" / "train-images-idx3-ubyte").exists() else "not there",
    }
    if json:
        render.print_json(facts)
    else:
        render.print_table("This installation", ("what", "found"), list(facts.items()), text_columns=2)


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
