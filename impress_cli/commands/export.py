"""`impress export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from impress_cli import options, render
from impress_cli.shared import Compute, Output, command


@command
def export(
    path: options.BankPath,
    task: options.Task,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", parser=options.user_path, help="File to write, by habit .safetensors.")
    ],
    compute: Compute,
    output: Output,
    file_format: Annotated[
        Literal["safetensors", "onnx", "onnx-drawn"],
        typer.Option(
            "--format",
            help="Weights for timm or torch; a graph for any runtime of ONNX; or a graph without weights, which draws "
            "them from the bank's seed while it is loaded: 8 kB, its residual, and 18 to 29 kB for each mask.",
        ),
    ] = "safetensors",
) -> None:
    """Write one task as a plain network: merged weights that timm or torch load without impress, or an ONNX graph.

    What was written is loaded again and held to the bank's own logits; if they differ, no file is left.

    The metadata say how an image becomes an input. (`impress task export` writes the few bytes of the task itself.)

    Example: impress export digits.impress rotated-digits/15 fifteen-lenet.safetensors
    """
    from impress_learn.jobs.export import export_weights

    written = export_weights(path, task, file, file_format=file_format, device=compute.choose_device)
    if output.json:
        render.print_json({"file": str(file), **asdict(written)})
        return
    holds = f"{written.tensors} tensors" if written.tensors else "weights drawn while it is loaded"
    render.print_line(f"{file}: {written.name}, {holds}, {render.size(written.bytes)}.")
    render.print_line("Loaded again, it gives the logits that the bank gives. To load it:\n")
    for line in written.load.splitlines():
        render.print_line(f"    {line}")
