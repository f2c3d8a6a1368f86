"""The options that every command has, declared once: a command takes records, its command line has the options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impress_cli.options import FIRST, Groups, user_path
from impress_cli.record_options import options_of
from impress_format.errors import UsageError
from impress_learn.running.device import Workers, choose_device, compute_deterministically
from impress_learn.training.config import check_seed

if TYPE_CHECKING:
    import torch

    from impress_learn.running.device import Device


class DeviceChoice(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


_EVERYWHERE = "Everywhere"
_WORKERS = "Several processes, or a cluster"


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


class Engine(str, Enum):
    local = "local"
    ray = "ray"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Over which workers trainings are spread."""

    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            help="Processes that train side by side: of many masks or tasks more get done than by one process with "
            "several threads. Default: 1; of a Ray cluster as many as it has room for.",
            show_default=False,
            rich_help_panel=_WORKERS,
        ),
    ] = None
    engine: Annotated[
        Engine,
        typer.Option(
            "--engine",
            help="Where they run: on this machine, or on a Ray cluster (docs/cluster.md).",
            rich_help_panel=_WORKERS,
        ),
    ] = Engine.local
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="HOST:PORT",
            help="Of the cluster. Default: $RAY_ADDRESS, else the one that this machine belongs to.",
            show_default=False,
            rich_help_panel=_WORKERS,
        ),
    ] = None
    gpus_per_worker: Annotated[
        float,
        typer.Option(
            "--gpus-per-worker",
            metavar="F",
            help="GPUs of a worker, also a part of one. Without, it has CPUs.",
            rich_help_panel=_WORKERS,
        ),
    ] = 0.0
    mixed: Annotated[
        bool,
        typer.Option(
            "--mixed",
            help="Have workers train that have other releases of torch, timm, numpy or Pillow, or another processor or "
            "GPU, and record these. Last bits then depend on who trained what.",
            rich_help_panel=_WORKERS,
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where to compute, and what all randomness is drawn from."""

    seed: Annotated[
        int, typer.Option("--seed", help="What all randomness is drawn from.", rich_help_panel=_EVERYWHERE)
    ] = 0
    device: Annotated[DeviceChoice, typer.Option("--device", help="Where to compute.", rich_help_panel=_EVERYWHERE)] = (
        DeviceChoice.auto
    )
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="On a GPU: the same result every time, some steps slower. On a CPU it is so without.",
            rich_help_panel=_EVERYWHERE,
        ),
    ] = False
    reproducible: Annotated[
        bool,
        typer.Option(
            "--reproducible",
            help="On a CPU: compute with what every x86-64 machine with AVX2 has, so that the same releases give the "
            "same bits on all of them. A bank that is created so says so; what is added to it is computed likewise.",
            rich_help_panel=_EVERYWHERE,
        ),
    ] = False

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.reproducible:
            from impress_learn.running.same_bits import pin_instructions

            pin_instructions()

    def name_or_choose(self) -> str | Callable[[], torch.device]:
        """The device, for a job that may do without torch where that is all the same."""
        plain = self.device in (DeviceChoice.auto, DeviceChoice.cpu) and not self.deterministic
        return self.device.value if plain else self.choose_device

    def on(self, spread: Spread) -> Device:
        """The device of each worker."""
        if spread == Spread():
            return self.choose_device
        return Workers(
            count=spread.workers,
            device=self.choose_device,
            engine=spread.engine.value,
            ray_address=spread.ray_address,
            gpus_per_worker=spread.gpus_per_worker,
            mixed=spread.mixed,
        )

    def choose_device(self) -> torch.device:
        """The device to compute on. Imports torch.

        Raises:
            UsageError: it is named and not there.
        """
        import torch

        if self.deterministic:
            compute_deterministically()
        if self.device is DeviceChoice.auto:
            return choose_device("auto")
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if not available[self.device.value]:
            raise UsageError(f"`device` {self.device.value}: torch sees none here; use `device` cpu (or auto)")
        return torch.device(self.device.value)


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """What a command learns from."""

    references: Annotated[
        list[str],
        typer.Argument(
            metavar="REF...",
            help="Tasks: STREAM/KEY, a slice STREAM/START:STOP:STEP, or folder:PATH.",
            show_default=False,
        ),
    ]
    groups: Groups = None

    def grouped(self) -> list[str]:
        """The references, folders with the pattern that tells which of their images belong together.

        Raises:
            InvalidReference: the pattern has no place for what names a group, or no reference is a folder.
        """
        from impress_learn.streams.reference import group_references

        return group_references(self.references, self.groups)


_EVERY_COMMAND = (Compute, Data, Output)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command; parameters that are records (those above, training configs, parts) become their fields' options."""
    # get_type_hints of Python 3.10 puts Optional around what has None by default; Typer sees no option in that.
    hints = inspect.get_annotations(function, eval_str=True)
    own: list[inspect.Parameter] = []
    everywhere: list[inspect.Parameter] = []
    records: dict[str, tuple[Callable[..., Any], list[inspect.Parameter]]] = {}
    for parameter in inspect.signature(function).parameters.values():
        kind: Any = hints[parameter.name]
        if isinstance(kind, type) and is_dataclass(kind):
            start: Any = None if parameter.default is inspect.Parameter.empty else parameter.default
            options = options_of(kind, start)
            records[parameter.name] = kind if start is None else functools.partial(replace, start), options
            (everywhere if kind in _EVERY_COMMAND else own).extend(options)
        else:
            own.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
    own.sort(key=lambda one: FIRST.index(one.name) if one.name in FIRST else len(FIRST))

    @functools.wraps(function)
    def run(**given: Any) -> None:
        made = {
            name: make(**{option.name: given.pop(option.name) for option in options})
            for name, (make, options) in records.items()
        }
        function(**given, **made)

    # Typer reads these two; the function under it would be found through __wrapped__.
    del run.__wrapped__
    run.__signature__ = inspect.Signature([*own, *everywhere])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (*own, *everywhere)}
    return run
