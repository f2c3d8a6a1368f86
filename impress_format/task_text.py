"""The record of a task as format version 2 writes it: one array of JSON, in which every byte counts.

    ["DIGEST",2,TASK,ACCURACY,TRAIN_ACCURACY,NAME,BASIS,FIT,GRANULARITY,RESIDUAL_BITS,HEAD_BITS,
     RESIDUAL_LAYERS,CLASSES]

It comes in two halves. `own` (TASK to NAME) differs from task to task; `common` (the rest) is the same for all tasks
learned alike, and a pack keeps it once. NAME is a text, or null where TASK makes it; or a list of that, followed by the
names of the task's classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from impress_format.errors import FormatError
from impress_format.limits import MAX_CLASS_NAMES, MAX_TEXT
from impress_format.records import (
    TEXT,
    BasisId,
    Digest,
    NumberOf,
    ResidualBits,
    Share,
    Side,
    TaskFitRecord,
    TaskRecord,
    Text,
    is_task_name,
)
from impress_format.strict_json import decode_strictly

_LEAST_CLASSES = 2
BASIS_DIGITS = 16
"""Of a basis digest, as version 2 stores it."""
DIGITS = 32
START = b'["'
"""The digest follows."""
_TEXT = re.compile(TEXT).fullmatch
_FIT = msgspec.structs.fields(TaskFitRecord)
_SETTINGS = {"granularity": 1, "residual_bits": 0, "head_bits": 0, "residual_layers": 0, "classes": 0}
"""Fields of a record that stand at its end, in this order, with their defaults."""
_FIT_DEFAULTS = [field.default for field in _FIT if field.default is not msgspec.NODEFAULT]

if TYPE_CHECKING:
    _Fit = Any
else:
    _Fit = msgspec.defstruct(
        "_Fit",
        [(field.name, field.type, *(() if field.default is msgspec.NODEFAULT else (field.default,))) for field in _FIT],
        array_like=True,
        frozen=True,
        forbid_unknown_fields=True,
    )


class _Common(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    basis: BasisId
    fit: _Fit
    granularity: Side = 1
    residual_bits: ResidualBits = 0
    head_bits: ResidualBits = 0
    residual_layers: NumberOf = 0
    classes: NumberOf = 0


_Given = str | tuple[str | None, ...] | None
# What is in it is checked in `_named`: with a pattern in such a union, msgspec 0.22 frees memory twice.


class _Line(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    digest: Digest
    format_version: Literal[2]
    task: Text
    accuracy: Share
    train_accuracy: Share
    name: _Given
    basis: BasisId
    fit: _Fit
    granularity: Side = 1
    residual_bits: ResidualBits = 0
    head_bits: ResidualBits = 0
    residual_layers: NumberOf = 0
    classes: NumberOf = 0


_OWN = msgspec.json.Decoder(tuple[Text, Share, Share, _Given])
_PLAIN_OWN = msgspec.json.Decoder(tuple[str, Share, Share, _Given])
_COMMON = msgspec.json.Decoder(_Common)


@dataclass(frozen=True, slots=True)
class Common:
    """What tasks that were learned alike have in common (TaskRecord); of the basis digest the first half."""

    basis: str
    fit: TaskFitRecord
    granularity: int
    residual_bits: ResidualBits
    head_bits: ResidualBits
    residual_layers: int
    classes: int


@dataclass(frozen=True, slots=True)
class TaskText:
    """The two halves, without the comma between them."""

    own: bytes
    common: bytes

    def sealed(self, digest: bytes) -> bytes:
        """The whole text, with this checksum."""
        return b'%s%s",2,%s,%s]' % (START, digest, self.own, self.common)


def default_name(task: str) -> str | None:
    """The name of a task that gives none: its reference with hyphens for slashes, where that is a name."""
    name = task.replace("/", "-")
    return name if is_task_name(name) else None


def is_nameless(own: bytes) -> bool:
    """Whether the half that a task has to itself leaves its name to its reference.

    Raises:
        msgspec.MsgspecError, UnicodeError: it is none.
    """
    if not own.endswith(b"]"):
        return own.endswith(b",null")
    given = _OWN.decode(b"[%s]" % own)[3]
    return isinstance(given, tuple) and given[:1] == (None,)


def write_text(record: TaskRecord) -> TaskText:
    """The text of a record; accuracies to a hundredth of a percent."""
    name = None if record.name == default_name(record.task) else record.name
    own = [
        record.task,
        round(record.accuracy, 4),
        round(record.train_accuracy, 4),
        [name, *record.class_names] if record.class_names else name,
    ]
    fit = [getattr(record.fit, field.name) for field in _FIT]
    settings = [getattr(record, name) for name in _SETTINGS]
    common = [record.basis[:BASIS_DIGITS], _trimmed(fit, _FIT_DEFAULTS), *settings]
    return TaskText(_inside(own), _inside(_trimmed(common, list(_SETTINGS.values()))))


def read_text(path: Path, text: bytes) -> TaskRecord:
    """The record of a whole text.

    Raises:
        FormatError: it is none, or it gives no name where one is needed.
    """
    try:
        line: _Line = decode_strictly(
            path,
            text,
            lambda given: msgspec.json.decode(given, type=_Line),
            lambda line: write_text(_record(path, line)).sealed(line.digest.encode()),
            longest=4 * MAX_TEXT,
        )
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FormatError(path, f"holds no valid TaskRecord ({error})") from error
    return _record(path, line)


def read_own(own: bytes) -> tuple[str, str, float, float]:
    """Name, reference and both accuracies, of the half that a task has to itself.

    Raises:
        msgspec.MsgspecError, UnicodeError: it is none.
    """
    task, accuracy, train_accuracy, given = _OWN.decode(b"[%s]" % own)
    return _named(given, task)[0], task, accuracy, train_accuracy


def read_own_classes(own: bytes) -> tuple[str, ...]:
    """The names of the task's classes, of the half that a task has to itself; none where it gives none.

    Raises:
        msgspec.MsgspecError, UnicodeError: it is none.
    """
    if not own.endswith(b"]"):
        return ()
    task, _, _, given = _OWN.decode(b"[%s]" % own)
    return _named(given, task)[1]


def read_owns(owns: Sequence[bytes]) -> list[tuple[str, str, float, float]]:
    """As read_own, of many halves at once: several times as fast.

    Raises:
        msgspec.MsgspecError, UnicodeError: one is none.
    """
    together = b"[" + b"]\n[".join(owns) + b"]"
    if together.count(b"\n") != len(owns) - 1:  # JSON may have it between values, where a writer puts nothing
        raise msgspec.DecodeError("JSON is malformed: a line break")
    # Of plain ASCII that is short every text is one that a record may have: no pattern is tried on each.
    plain = (
        together.isascii()
        and not any(mark in together for mark in (b"\\", b"\x7f"))
        and max(map(len, owns)) <= MAX_TEXT
    )
    lines = (_PLAIN_OWN if plain else _OWN).decode_lines(together)
    names = [
        given if given.__class__ is str else task.replace("/", "-") if given is None else _named(given, task)[0]
        for task, _, _, given in lines
    ]
    if not (all(map(is_task_name, names)) and all(task for task, _, _, _ in lines)):
        raise msgspec.ValidationError("a task gives no name, and its reference makes none")
    return [(name, task, accuracy, train) for name, (task, accuracy, train, _) in zip(names, lines, strict=True)]


def read_common(common: bytes) -> Common:
    """What is in the half that tasks share.

    Raises:
        msgspec.MsgspecError, UnicodeError: it is none.
    """
    shared: _Common = _COMMON.decode(b"[%s]" % common)
    return Common(shared.basis, _fit(shared.fit), **{name: getattr(shared, name) for name in _SETTINGS})


def _named(given: _Given, task: str) -> tuple[str, tuple[str, ...]]:
    """The name of a task, and those of its classes, of what stands for its name.

    Raises:
        msgspec.ValidationError: it is no name, makes none, or names no classes, or too long.
    """
    listed = given if isinstance(given, tuple) else (given,)
    name, classes = listed[0] if listed else None, listed[1:]
    if isinstance(given, tuple) and len(classes) < _LEAST_CLASSES:
        raise msgspec.ValidationError(f"names {len(classes)} classes, expected {_LEAST_CLASSES} or more")
    names = tuple(one for one in classes if one is not None and _TEXT(one))
    if len(names) < len(classes) or sum(len(one.encode()) for one in names) > MAX_CLASS_NAMES:
        raise msgspec.ValidationError(
            f"has a class without a name, or with an invalid one, or names of more than {MAX_CLASS_NAMES:,} bytes"
        )
    name = default_name(task) if name is None else name
    if name is None:
        raise msgspec.ValidationError(f"gives no name, and {task!r} makes none")
    if not is_task_name(name):
        raise msgspec.ValidationError(f"gives {name!r}, which no task may be called")
    return name, names


def _record(path: Path, line: _Line) -> TaskRecord:
    try:
        name, classes = _named(line.name, line.task)
    except msgspec.ValidationError as error:
        raise FormatError(path, str(error)) from error
    return TaskRecord(
        name=name,
        class_names=classes,
        task=line.task,
        basis=line.basis.ljust(DIGITS, "0"),
        accuracy=line.accuracy,
        train_accuracy=line.train_accuracy,
        fit=_fit(line.fit),
        **{name: getattr(line, name) for name in _SETTINGS},
        digest=line.digest,
    )


def _fit(line: _Fit) -> TaskFitRecord:
    return TaskFitRecord(**{field.name: getattr(line, field.name) for field in _FIT})


def _trimmed(values: Sequence[object], defaults: Sequence[object]) -> list[object]:
    """The values without those at the end that are defaults."""
    kept, left = list(values), list(defaults)
    while left and kept[-1] == left[-1]:
        kept.pop()
        left.pop()
    return kept


def _inside(values: Sequence[object]) -> bytes:
    return msgspec.json.encode(values)[1:-1]
