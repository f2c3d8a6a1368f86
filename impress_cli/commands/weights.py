"""`impress weights convert|add`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from impress_cli import options, render
from impress_cli.shared import Output, command

app = typer.Typer(no_args_is_help=True, help="Weights that others trained, for `bank create --weights`.")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: expected numbers between commas, such as 0.5,0.5,0.5") from error
    if len(numbers) != 3:
        raise typer.BadParameter(f"{text!r}: expected three numbers, of red, green and blue")
    return numbers


@app.command()
@command
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", parser=options.user_path, help="A checkpoint (.pth).")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", parser=options.user_path, help="File to write, by habit .safetensors.")
    ],
    output: Output,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="timm:NAME", help="Give the tensors its names, in order, if the shapes agree."),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="R,G,B", help="What its images were normalised by, kept in the file."),
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="R,G,B", help="Likewise.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Kept in the file, and in banks over it.")] = None,
    origin: Annotated[
        str | None,
        typer.Option("--origin", metavar="TEXT", help="Where to get it, kept likewise; told to whoever lacks it."),
    ] = None,
) -> None:
    """Make a pickled checkpoint a safetensors file. It is read without running what is in it (weights_only).

    Example: impress weights convert model.pth model.safetensors --like timm:efficientnet_lite0
    """
    from impress_learn.jobs.convert_weights import convert_weights

    written = convert_weights(
        source,
        target,
        like=like,
        mean=_numbers(mean) if mean else None,
        std=_numbers(std) if std else None,
        licence=licence,
        origin=origin,
    )
    if output.json:
        render.print_json({"file": str(target), **asdict(written)})
        return
    render.print_line(f"{target}: {written.tensors:,} tensors, {render.size(written.bytes)}, id {written.identity}")


@app.command()
@command
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE.safetensors", parser=options.user_path, help="The weights.")],
    output: Output,
) -> None:
    """Copy weights to the user's cache, where the banks that stand on them look.

    Example: impress weights add model.safetensors
    """
    from impress_learn.network.pretrained import add_weights

    kept, identity = add_weights(file)
    if output.json:
        render.print_json({"file": str(kept), "identity": identity})
        return
    render.print_line(f"{kept}: id {identity}")
