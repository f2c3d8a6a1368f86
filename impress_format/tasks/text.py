"""The record of a task as format version 2 writes it: one array of JSON, in which every byte counts.

    ["DIGEST",2,TASK,ACCURACY,TRAIN_ACCURACY,NAME,BASIS,FIT,SETTINGS...]

SETTINGS are those of the parts, in the order of parts/table.py. It comes in two halves. `own` (TASK to NAME) differs
from task to task; `shared_bytes` (the rest) is the same for all tasks learned alike, and a pack keeps it once. NAME is
a text, or null where TASK makes it; or a list of that, followed by the names of the task's classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from impress_format.container.strict_json import decode_strictly
from impress_format.errors import FormatError
from impress_format.limits import MAX_CLASS_NAMES, MAX_TEXT
from impress_format.parts.table import PLACES, Settings
from impress_format.records.fields import TEXT, BasisId, Digest, Share, Text, is_task_name
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.record import Images, TaskRecord, images_of

_Accuracy = float | None
OwnText = tuple[str, str, _Accuracy, _Accuracy]
_LEAST_CLASSES = 2
BASIS_DIGITS = 16
"""Hex digits of a basis digest that version 2 stores."""
DIGITS = 32
START = b'["'
"""The digest follows."""
_TEXT = re.compile(TEXT).fullmatch
_TRAINING = msgspec.structs.fields(TaskTrainingRecord)
_TRAINING_DEFAULTS = [field.default for field in _TRAINING if field.default is not msgspec.NODEFAULT]

_GROUPS = {field.name: field.type for field in msgspec.structs.fields(Settings)}
"""Types of settings, by part."""


def _setting(part: str, name: str) -> tuple[str, Any, object]:
    """One field of the settings as the text has it: its name there, type and default."""
    (field,) = (field for field in msgspec.structs.fields(_GROUPS[part]) if field.name == name)
    return f"{part}_{name}", field.type, field.default


_SETTINGS = [_setting(part, name) for part, name in PLACES]
_SETTING_DEFAULTS = [default for _, _, default in _SETTINGS]


def _array(name: str, fields: Sequence[tuple[Any, ...]]) -> Any:
    """A record that JSON has as an array of its fields."""
    return msgspec.defstruct(name, fields, array_like=True, frozen=True, forbid_unknown_fields=True)


_Training = _array(
    "_Training",
    [
        (field.name, field.type, *(() if field.default is msgspec.NODEFAULT else (field.default,)))
        for field in _TRAINING
    ],
)
_SHARED: list[tuple[Any, ...]] = [("basis", BasisId), ("fit", _Training | None), *_SETTINGS]
_Given = str | tuple[str | None, ...] | None
# What is in it is checked in `_named`: with a pattern in such a union, msgspec 0.22 frees memory twice.
_SharedHeader = _array("_SharedHeader", _SHARED)
_Line = _array(
    "_Line",
    [
        ("digest", Digest),
        ("format_version", Literal[2]),
        ("task", Text),
        ("accuracy", Share | None),
        ("train_accuracy", Share | None),
        ("name", _Given),
        *_SHARED,
    ],
)
_OWN = msgspec.json.Decoder(tuple[Text, Share | None, Share | None, _Given])
_PLAIN_OWN = msgspec.json.Decoder(tuple[str, Share | None, Share | None, _Given])
_SHARED_HEADER = msgspec.json.Decoder(_SharedHeader)


@dataclass(frozen=True, slots=True)
class SharedHeader:
    """What tasks that were learned alike have in common (TaskRecord); of the basis digest the first half."""

    basis: str
    fit: TaskTrainingRecord | None
    settings: Settings

    @property
    def images(self) -> Images:
        """What their accuracies were measured on."""
        return images_of(self.fit)


@dataclass(frozen=True, slots=True)
class TaskText:
    """The two halves, without the comma between them."""

    own: bytes
    shared_bytes: bytes

    def sealed(self, digest: bytes) -> bytes:
        """The whole text, with this checksum."""
        return b'%s%s",2,%s,%s]' % (START, digest, self.own, self.shared_bytes)


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
    own = write_own(record.name, record.task, record.accuracy, record.train_accuracy, record.class_names)
    return TaskText(own, write_shared(record.basis, record.fit, record.settings))


def write_own(name: str, task: str, accuracy: _Accuracy, train: _Accuracy, class_names: Sequence[str]) -> bytes:
    """The half that a task has to itself."""
    given = None if name == default_name(task) else name
    named = [given, *class_names] if class_names else given
    shares = [None if share is None else round(share, 4) for share in (accuracy, train)]
    return _inside([task, *shares, named])


def write_shared(basis: str, fit: TaskTrainingRecord | None, settings: Settings) -> bytes:
    """The half that tasks share."""
    trained = None if fit is None else _trimmed([getattr(fit, field.name) for field in _TRAINING], _TRAINING_DEFAULTS)
    values = [getattr(getattr(settings, part), name) for part, name in PLACES]
    shared = [basis[:BASIS_DIGITS], trained, *values]
    return _inside(_trimmed(shared, _SETTING_DEFAULTS))


def read_text(path: Path, text: bytes, *, compared: bool = False) -> TaskRecord:
    """The record of a whole text.

    Args:
        compared: whether the caller holds the text to what write_text makes of the record: then JSON that two readers
            may read differently is refused there.

    Raises:
        FormatError: it is none, or it gives no name where one is needed.
    """
    try:
        line = _decode(text) if compared else decode_strictly(path, text, _decode, _encode, longest=4 * MAX_TEXT)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FormatError(path, f"holds no valid TaskRecord ({error})") from error
    return _record(path, line)


def read_own(own: bytes) -> OwnText:
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


def read_owns(owns: Sequence[bytes]) -> list[OwnText]:
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


def read_shared_header(shared_bytes: bytes) -> SharedHeader:
    """What is in the half that tasks share.

    Raises:
        msgspec.MsgspecError, UnicodeError: it is none.
    """
    shared = _SHARED_HEADER.decode(b"[%s]" % shared_bytes)
    return SharedHeader(shared.basis, _training_record(shared.fit), _settings(shared))


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


def _decode(text: bytes) -> Any:
    return msgspec.json.decode(text, type=_Line)


def _encode(line: Any) -> bytes:
    return write_text(_record(Path("task"), line)).sealed(line.digest.encode())


def _record(path: Path, line: Any) -> TaskRecord:
    try:
        name, classes = _named(line.name, line.task)
    except msgspec.ValidationError as error:
        raise FormatError(path, str(error)) from error
    fit = _training_record(line.fit)
    if None in (line.accuracy, line.train_accuracy) and fit is not None and not fit.unlabelled:
        raise FormatError(path, "holds no valid TaskRecord (no accuracy, though labels were looked at)")
    return TaskRecord(
        name=name,
        class_names=classes,
        task=line.task,
        basis=line.basis.ljust(DIGITS, "0"),
        accuracy=line.accuracy,
        train_accuracy=line.train_accuracy,
        fit=fit,
        settings=_settings(line),
        digest=line.digest,
    )


def _settings(line: Any) -> Settings:
    declared: dict[str, dict[str, object]] = {}
    for (part, name), (in_text, _, _) in zip(PLACES, _SETTINGS, strict=True):
        declared.setdefault(part, {})[name] = getattr(line, in_text)
    return Settings(**{part: _GROUPS[part](**fields) for part, fields in declared.items()})


def _training_record(line: Any) -> TaskTrainingRecord | None:
    return None if line is None else TaskTrainingRecord(**{one.name: getattr(line, one.name) for one in _TRAINING})


def _trimmed(values: Sequence[object], defaults: Sequence[object]) -> list[object]:
    """The values without those at the end that are defaults."""
    kept, left = list(values), list(defaults)
    while left and kept[-1] == left[-1]:
        kept.pop()
        left.pop()
    return kept


def _inside(values: Sequence[object]) -> bytes:
    return msgspec.json.encode(values)[1:-1]
