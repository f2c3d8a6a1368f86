"""The method: a frozen backbone, supermasks, and tasks of a few hundred bytes. The public names, imported when used.

import impress_learn
loaded = impress_learn.load_bank("digits.impress")
print(loaded.predict("seven.png", "rotated-digits-15").label)

`import impress_learn` itself imports nothing: torch comes with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from impress_format import Bank, ImpressError, open_bank
    from impress_learn.face.loaded import LoadedBank, load_bank
    from impress_learn.face.prediction import Prediction
    from impress_learn.identify.discovery import Discovery
    from impress_learn.jobs import (
        add_dataset,
        add_tasks,
        create_bank,
        discover_tasks,
        evaluate,
        export_weights,
        extend_bank,
        infer,
        report_bank,
        update_task,
    )
    from impress_learn.jobs.add_dataset import OwnData
    from impress_learn.parts.table import Parts
    from impress_learn.plan.asked import Masks, Network
    from impress_learn.progress import Progress
    from impress_learn.running.device import Workers
    from impress_learn.streams.reference import Reference, group_references, parse_reference
    from impress_learn.training.config import MaskTraining, TaskTraining

__all__ = [
    "Bank",
    "Discovery",
    "ImpressError",
    "LoadedBank",
    "MaskTraining",
    "Masks",
    "Network",
    "OwnData",
    "Parts",
    "Prediction",
    "Progress",
    "Reference",
    "TaskTraining",
    "Workers",
    "add_dataset",
    "add_tasks",
    "create_bank",
    "discover_tasks",
    "evaluate",
    "export_weights",
    "extend_bank",
    "group_references",
    "infer",
    "load_bank",
    "open_bank",
    "parse_reference",
    "report_bank",
    "update_task",
]

_HOMES = {
    "impress_format": ("Bank", "ImpressError", "open_bank"),
    "impress_learn.training.config": ("MaskTraining", "TaskTraining"),
    "impress_learn.jobs": (
        "add_dataset",
        "add_tasks",
        "create_bank",
        "discover_tasks",
        "evaluate",
        "export_weights",
        "extend_bank",
        "infer",
        "report_bank",
        "update_task",
    ),
    "impress_learn.jobs.add_dataset": ("OwnData",),
    "impress_learn.identify.discovery": ("Discovery",),
    "impress_learn.plan.asked": ("Masks", "Network"),
    "impress_learn.face.loaded": ("LoadedBank", "load_bank"),
    "impress_learn.parts.table": ("Parts",),
    "impress_learn.face.prediction": ("Prediction",),
    "impress_learn.streams.reference": ("Reference", "group_references", "parse_reference"),
    "impress_learn.progress": ("Progress",),
    "impress_learn.running.device": ("Workers",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'impress_learn' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
