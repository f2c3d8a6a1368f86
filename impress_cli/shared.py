"""The options that every command has, declared once: a command takes records, its command line has the options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from impress_format.errors import UsageError

if TYPE_CHECKING:
    import torch


class Device(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


_EVERYWHERE = "Everywhere"


def path_of(text: str) -> Path:
    """A path as it was given. An empty one, which pathlib takes for the current folder, is an unset variable.

    Raises:
        BadParameter: it is empty.
    """
    if not text:
        raise typer.BadParameter("it is empty: is a variable not set?")
    return Path(text)


def user_path(text: str) -> Path:
    """A path whose `~` is the user's home also where no shell saw it, as in --data-dir=~/data."""
    return path_of(text).expanduser()


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command answers."""

    json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, nothing else.", rich_help_panel=_EVERYWHERE)
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no remarks.", rich_help_panel=_EVERYWHERE)
    ] = False
    debug: Annotated[bool, typer.Option("--debug", help="Full traceback on an error.", rich_help_panel=_EVERYWHERE)] = (
        False
    )
    """Read from the command line by `main`, before a command is even known."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where data sets are."""

    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            parser=user_path,
            metavar="DIR",
            help="Where data sets are, or are downloaded to. Default: $IMPRESS_DATA, else the user's cache folder.",
            show_default=False,
            rich_help_panel=_EVERYWHERE,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where to compute, and what all randomness is drawn from."""

    seed: Annotated[
        int, typer.Option("--seed", help="What all randomness is drawn from.", rich_help_panel=_EVERYWHERE)
    ] = 0
    device: Annotated[Device, typer.Option("--device", help="Where to compute.", rich_help_panel=_EVERYWHERE)] = (
        Device.auto
    )

    def choose_device(self) -> torch.device:
        """The device to compute on. Imports torch.

        Raises:
            UsageError: it is named and not there.
        """
        import torch

        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if self.device is Device.auto:
            return torch.device(next(name for name, there in available.items() if there))
        if not available[self.device.value]:
            raise UsageError(f"`device` {self.device.value}: torch sees none here; use `device` cpu (or auto)")
        return torch.device(self.device.value)


_RECORDS = (Compute, Data, Output)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of the types above become the options that make them up."""
    hints = get_type_hints(function, include_extras=True)
    own, options, records = [], [], {}
    for parameter in inspect.signature(function).parameters.values():
        record = hints[parameter.name]
        if record in _RECORDS:
            records[parameter.name] = record
            types = get_type_hints(record, include_extras=True)
            options += [
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
                )
                for field in fields(record)
            ]
        else:
            own.append(parameter.replace(annotation=record, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def run(**given: Any) -> None:
        made = {
            name: record(**{field.name: given.pop(field.name) for field in fields(record)})
            for name, record in records.items()
        }
        function(**given, **made)

    # Typer reads these two; the function under it would be found through __wrapped__.
    del run.__wrapped__
    run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (*own, *options)}
    return run
