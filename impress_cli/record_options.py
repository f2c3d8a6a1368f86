"""A record's fields as options of a command, and where a command's help has them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from impress_cli.options import FIRST, TRAINING_OPTIONS
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.training.config import MaskTraining, TaskTraining

_PANELS: Mapping[type, str] = {
    MaskTraining: "How it is learned",
    TaskTraining: "How it is learned",
    Parts: "What a task is made of",
    Network: "The network",
    Masks: "The masks",
}
"""Where options stand in a command's help, by the record that they are fields of. Options of a record without a panel,
and those that help finds first (options.FIRST), stand above all panels."""


def options_of(record: type, start: Any) -> list[inspect.Parameter]:
    """A record's fields as options, the values of `start` (None for their own) as defaults.

    What an option is comes from the field's annotation, from the help that it has, or from TRAINING_OPTIONS; what
    has none of these is no option: the seed of a training config is that of the command.
    """
    types = get_type_hints(record, include_extras=True)
    options = []
    for field in fields(record):
        kind = types[field.name]
        value = field.default if start is None else getattr(start, field.name)
        panel = None if field.name in FIRST else _PANELS.get(record)
        if field.metadata:
            kind = _option(field.name, kind, value, field.metadata, panel)
        elif get_origin(kind) is not Annotated:
            if field.name not in TRAINING_OPTIONS:
                continue
            option = copy.copy(TRAINING_OPTIONS[field.name])
            option.rich_help_panel = panel
            kind = Annotated[kind, option]
        value = inspect.Parameter.empty if value is MISSING else value
        options.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kind))
    return options


def _option(name: str, kind: Any, default: object, words: Mapping[str, Any], panel: str | None) -> Any:
    """A field as an option, by its help: `help_open` where nothing is the default and it has that.

    One that may be yes, no or neither has its opposite.
    """
    flag = f"--{name.replace('_', '-')}"
    settings: dict[str, Any] = {**words, "rich_help_panel": panel}
    open_help = settings.pop("help_open", None)
    if default is None:
        settings["help"] = open_help or settings["help"]
        settings["show_default"] = False
    if bool in (kind, *get_args(kind)) and default is not False:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    if "parser" in settings:  # which gives what Typer has no type for
        kind = str | None
    if get_origin(kind) is Literal and not isinstance(default, str | None):  # numbers, which the library checks
        kind, settings["metavar"] = int, f"[{'|'.join(map(str, get_args(kind)))}]"
    return Annotated[kind, typer.Option(flag, **settings)]
