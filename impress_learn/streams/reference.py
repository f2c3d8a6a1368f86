"""Task references: `STREAM/KEY`, slices `STREAM/START:STOP:STEP` as Python means them, and `folder:PATH`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from impress_format.errors import InvalidReference
from impress_format.limits import MAX_TEXT
from impress_learn.streams.folder import FOLDER
from impress_learn.streams.image_files import task_folders
from impress_learn.streams.stream import DataSet, Key, Stream
from impress_learn.streams.table import find_stream

_MAX_SLICE = 1_000_000
_MOST_READABLE = 80
_KEY = re.compile(r"\d{1,10}", re.ASCII)
_SLICE = re.compile(r"(\d{0,10}):(\d{1,10})(?::(\d{1,10}))?", re.ASCII)


@dataclass(frozen=True)
class Reference:
    """One task of one stream."""

    stream: Stream
    key: Key

    @cached_property
    def data_set(self) -> DataSet:
        """The images it is made from.

        Raises:
            DataError: a folder of images is not there, or holds no task.
        """
        return self.stream.data_set(self.key)

    def __str__(self) -> str:
        return f"{self.stream.name}{'/' if isinstance(self.key, int) else ':'}{self.key}"

    @property
    def default_name(self) -> str:
        """The name a task gets when none is given: `rotated-mnist/30` becomes `rotated-mnist-30`.

        A path may hold what a name may not, and be longer: it is cut down, and told from others by a digest.
        """
        if isinstance(self.key, int):
            return f"{self.stream.name}-{self.key}"
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", str(self))[:_MOST_READABLE]
        return f"{readable.strip('-.')}-{hashlib.sha256(str(self).encode()).hexdigest()[:8]}"


def parse_reference(text: str) -> Reference:
    """The one task that a text names.

    Raises:
        InvalidReference: as parse_references, or a slice of several.
    """
    references = parse_references([text])
    if len(references) != 1:
        raise InvalidReference(f"{text} names {len(references)} tasks: one is expected")
    return references[0]


def parse_references(texts: Iterable[str]) -> tuple[Reference, ...]:
    """Expand references and slices, in order.

    Raises:
        InvalidReference: unknown stream, key outside the stream's range, malformed or empty slice,
            or a task named twice.
        DataError: there is no such folder.
    """
    references = tuple(reference for text in texts for reference in _expand(text))
    seen: set[Reference] = set()
    for reference in references:
        if reference in seen:
            raise InvalidReference(f"{reference} is named twice")
        seen.add(reference)
    return references


def _expand(text: str) -> list[Reference]:
    if text.startswith(f"{FOLDER.name}:"):
        return [Reference(FOLDER, path.as_posix()) for path in task_folders(_folder(text))]
    stream_name, slash, key_text = text.partition("/")
    if not slash:
        raise InvalidReference(f"{text!r} is not a task: expected STREAM/KEY, STREAM/START:STOP:STEP or folder:PATH")
    stream = find_stream(stream_name)
    if stream.keys is None:
        raise InvalidReference(f"{text!r}: a folder of images is {stream.name}:PATH")
    keys = _keys(text, key_text)
    for key in (keys[0], keys[-1]):
        if key >= stream.keys:
            raise InvalidReference(f"{text}: key {key} is outside 0..{stream.keys - 1} of {stream.name}")
    return [Reference(stream, key) for key in keys]


def _folder(text: str) -> Path:
    """The path that a reference names, as it was given."""
    from impress_format.records import TEXT

    path = text.partition(":")[2]
    if not re.fullmatch(TEXT, text) or not path:
        raise InvalidReference(f"{text!r}: expected a path, at most {MAX_TEXT:,} characters, none of them invisible")
    return Path(path)


def _keys(text: str, key_text: str) -> range:
    if _KEY.fullmatch(key_text):
        return range(int(key_text), int(key_text) + 1)
    match = _SLICE.fullmatch(key_text)
    if match is None:
        raise InvalidReference(f"{text!r}: the key must be a whole number or START:STOP:STEP, found {key_text!r}")
    start, stop, step = int(match[1] or 0), int(match[2]), int(match[3] or 1)
    if step == 0 or stop <= start:
        raise InvalidReference(f"{text!r} names no task: need START < STOP and STEP of at least 1")
    keys = range(start, stop, step)
    if len(keys) > _MAX_SLICE:
        raise InvalidReference(f"{text!r} names {len(keys):,} tasks, more than {_MAX_SLICE:,}")
    return keys
