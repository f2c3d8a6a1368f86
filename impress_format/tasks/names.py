"""Which task of a bank is meant by a name or a reference, and what is said where none or several are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from impress_format.errors import AmbiguousTask, TaskExists, TaskNotFound
from impress_format.records.fields import is_task_name
from impress_format.tasks.store import TaskStore


def find_task(tasks: TaskStore, name_or_reference: str) -> str:
    """The stored name of a task given by name or by reference (`rotated-mnist/30`).

    Raises:
        TaskNotFound: with the names there are.
        AmbiguousTask: several tasks were learned from this reference.
    """
    if is_task_name(name_or_reference) and tasks.has(name_or_reference):
        return name_or_reference
    found = tasks.learned_from(name_or_reference)
    if len(found) > 1:
        raise AmbiguousTask(
            f"{tasks.folder} has {len(found)} tasks of {name_or_reference} ({_listed(found)}): give the name of one"
        )
    if found:
        return found[0]
    names = tasks.names()
    raise TaskNotFound(f"{tasks.folder} has no task {name_or_reference!r}: " + (f"it has {_listed(names)}" if names
        else "it has none yet; add one with `impress task add`"))  # fmt: skip


def task_exists(path: Path, names: Sequence[str]) -> TaskExists:
    return TaskExists(
        f"{path} has {_listed(names)} already, made with other settings: remove it first (`impress task remove`), or "
        "choose another `name`"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
