"""Task references: `STREAM/KEY`, slices `STREAM/START:STOP:STEP` as Python means them, `folder:PATH`, and what only a
stored task says, `dataset:NAME`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from impress_format.errors import DataError, InvalidReference
from impress_format.limits import MAX_TEXT
from impress_learn.streams.dataset import DATASET
from impress_learn.streams.folder import FOLDER
from impress_learn.streams.folder_key import FolderKey, check_groups, parse_folder_key
from impress_learn.streams.folder_layout import Reading, folders_with_images, read_tasks
from impress_learn.streams.stream import DataSet, Key, Stream
from impress_learn.streams.table import STREAMS, find_stream

_MAX_SLICE = 1_000_000
_MOST_READABLE = 80
_KEY = re.compile(r"\d{1,10}", re.ASCII)
_SLICE = re.compile(r"(\d{0,10}):(\d{1,10})(?::(\d{1,10}))?", re.ASCII)


@dataclass(frozen=True)
class Reference:
    """One task of one stream: what a text such as `rotated-digits/30` names. It pickles and copies.

    Attributes:
        stream: the family of tasks that it is of.
        key: which one: a number, or what stands after `folder:` or `dataset:`.
        remark: what to say of how it was read, for people.
        given: the images that it is made from, where whoever made it had them; None for those that its stream finds.

    Examples:
        >>> str(parse_reference("rotated-digits/30"))
        'rotated-digits/30'
    """

    stream: Stream
    key: Key
    remark: str | None = field(default=None, compare=False)
    given: DataSet | None = field(default=None, compare=False, repr=False)

    @cached_property
    def data_set(self) -> DataSet:
        """The images it is made from.

        Raises:
            DataError: a folder of images is not there, or holds no task; the images were a Dataset in memory.
        """
        return self.stream.data_set(self.key) if self.given is None else self.given

    def __reduce__(self) -> tuple[Callable[..., Reference], tuple[object, ...]]:
        """By the name of the stream: a stream holds functions, which do not pickle, and is the same everywhere."""
        if STREAMS.get(self.stream.name) is not self.stream or self.given is not None:
            raise TypeError(f"{self}: a reference to images in memory can be neither pickled nor copied")
        return _of_stream, (self.stream.name, self.key, self.remark)

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


def _of_stream(name: str, key: Key, remark: str | None) -> Reference:
    return Reference(find_stream(name), key, remark)


def parse_reference(text: str) -> Reference:
    """The one task that a stored text names. A folder is one task: how it was read is settled, and it is not looked at.

    Args:
        text: `STREAM/KEY`, `folder:PATH`, or `dataset:NAME` of a stored task.

    Returns:
        The reference; no data are read.

    Raises:
        InvalidReference: an unknown stream, a key outside its range, a malformed text, or a slice of several tasks.

    Examples:
        >>> parse_reference("rotated-digits/30").default_name
        'rotated-digits-30'
    """
    if _is_folder(text):
        return _folder(_folder_key(text))
    if text.startswith(f"{DATASET.name}:"):
        return Reference(DATASET, text.partition(":")[2])
    return parse_one(text)


def parse_one(text: str | Reference) -> Reference:
    """The one task that a person names.

    Raises:
        InvalidReference: as parse_references, or several tasks.
        DataError: as parse_references.
    """
    references = parse_references([text])
    if len(references) != 1:
        remark = references[0].remark
        raise InvalidReference(
            f"{text} names {len(references)} tasks: one is expected" + (f"\n{remark}" if remark else "")
        )
    return references[0]


def group_references(references: Iterable[str], groups: str | None) -> list[str]:
    """The references, those of a person's own images with the pattern that tells which images belong together.

    Args:
        references: `STREAM/KEY`, slices of keys, `folder:PATH`. One that says its own pattern keeps it.
        groups: `{}` for what names a group (a patient, a site, a video), `*` for anything, compared with an image's
            name below its class: `{}/*` the folder there, `{}_*` a name up to its first underscore. None of a group are
            both learned from and tested on. None leaves all references as they are.

    Returns:
        As many references, to be learned from; nothing is looked for on the disk.

    Raises:
        InvalidReference: a pattern without a place for what names the group, or references of which none is a folder.

    Examples:
        >>> group_references(["folder:clinic"], "{}_*")
        ['folder:clinic::groups={}_*']
    """
    texts = list(references)
    if groups is None:
        return texts
    if not any(_is_folder(text) for text in texts):
        raise InvalidReference(f"`groups` {groups}: it is for your own images, {FOLDER.name}:PATH")
    return [str(_folder(_folder_key(text, groups))) if _is_folder(text) else text for text in texts]


def without_labels(references: Iterable[str | Reference]) -> list[str | Reference]:
    """The same references, a person's own images as such of which nobody knows the class.

    Raises:
        InvalidReference: a folder that is read otherwise.
    """
    made: list[str | Reference] = []
    for one in references:
        if isinstance(one, str) and _is_folder(one):
            key = _folder_key(one)
            if key.classes or key.tasks or key.groups is not None:
                raise InvalidReference(f"{one}: of images without labels expected folder:PATH alone")
            made.append(_folder(replace(key, unlabelled=True)))
        else:
            made.append(one)
    return made


def _is_folder(text: str) -> bool:
    return text.startswith(f"{FOLDER.name}:")


def parse_references(texts: Iterable[str | Reference]) -> tuple[Reference, ...]:
    """Expand references and slices, and folders of tasks, in order.

    Args:
        texts: those that are references already stay as they are.

    Raises:
        InvalidReference: unknown stream, key outside the stream's range, malformed or empty slice,
            or a task named twice.
        DataError: there is no such folder, or it may be read in two ways of which each loses images.
    """
    references = tuple(reference for text in texts for reference in _expand(text))
    seen: set[Reference] = set()
    for reference in references:
        if reference in seen:
            raise InvalidReference(f"{reference} is named twice")
        seen.add(reference)
    folders: dict[Path, Reference] = {}
    for reference in references:
        if reference.stream is FOLDER:
            other = folders.setdefault(parse_folder_key(str(reference.key)).path, reference)
            if other != reference:
                raise InvalidReference(f"{reference} and {other} are one folder read in two ways: expected one of them")
    return references


def _expand(text: str | Reference) -> list[Reference]:
    if isinstance(text, Reference):
        return [text]
    if _is_folder(text):
        return _folders(_folder_key(text))
    if text.startswith(f"{DATASET.name}:"):
        raise InvalidReference(
            f"{text}: a torch Dataset of your own is learned in Python, by `impress_learn.add_dataset`; here it has no "
            "images"
        )
    stream_name, slash, key_text = text.partition("/")
    if not slash:
        raise InvalidReference(f"{text!r} is not a task: expected STREAM/KEY, STREAM/START:STOP:STEP or folder:PATH")
    stream = find_stream(stream_name)
    if stream.keys is None:
        what = stream.summary if stream is DATASET else f"a folder of images is {stream.name}:PATH"
        raise InvalidReference(f"{text!r}: {what}")
    keys = _keys(text, key_text)
    for key in (keys[0], keys[-1]):
        if key >= stream.keys:
            raise InvalidReference(f"{text}: key {key} is outside 0..{stream.keys - 1} of {stream.name}")
    return [Reference(stream, key) for key in keys]


def _folder_key(text: str, groups: str | None = None) -> FolderKey:
    """What a reference says of a folder, its path as it was given."""
    from impress_format.records.fields import is_text

    if not is_text(text):
        raise InvalidReference(
            f"{text!r}: expected a path in UTF-8, at most {MAX_TEXT:,} characters, none of them invisible"
        )
    key = parse_folder_key(text.partition(":")[2])
    return replace(key, groups=check_groups(groups)) if groups is not None and key.groups is None else key


def _folders(key: FolderKey) -> list[Reference]:
    """The tasks in a folder, or the one that it is; the first says how it was read.

    Raises:
        DataError: as read_tasks, or a task is called what cannot be stored.
    """
    from impress_format.records.fields import is_text

    if key.classes or key.unlabelled:
        return [_folder(key)]
    read = (
        Reading(folders_with_images(key.path))
        if key.tasks
        else read_tasks(key.path, grouped=key.groups is not None and "/" in key.groups)
    )
    tasks = [replace(key, path=path, tasks=False) for path in read.tasks]
    for task in tasks:
        if not is_text(f"{FOLDER.name}:{task}"):
            raise DataError(
                f"{key.path}: the task {task.path.name!r} cannot be stored by its name: expected UTF-8 without control "
                "and invisible characters, and a shorter path; rename the folder"
            )
    first, *others = map(_folder, tasks)
    return [replace(first, remark=read.remark), *others]


def _folder(key: FolderKey) -> Reference:
    return Reference(FOLDER, str(key))


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
