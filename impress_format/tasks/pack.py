"""packs/DIGEST.safetensors: many tasks in one immutable file, a column each for what they have (docs/format.md, Packs).

A pack holds the files of its tasks, transposed: of each row the very bytes of the task's own file come back, and are
read by what reads that. So a packed task is checked as a loose one is, and nothing here knows what is in a part.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from impress_format.container.header import in_file_order, parse_header
from impress_format.container.sealed_file import decode_record
from impress_format.disk.files import open_limited, refuse_pointer
from impress_format.errors import FormatError
from impress_format.limits import MAX_CLASS_NAMES, MAX_HEADER_BYTES, MAX_PACK_BYTES, MAX_PACKED, MAX_TEXT
from impress_format.parts.part import Tensor
from impress_format.records.fields import Digest, Record
from impress_format.tasks.seal import long_file
from impress_format.tasks.short import short_file
from impress_format.tasks.text import (
    DIGITS,
    OwnText,
    SharedHeader,
    TaskText,
    default_name,
    read_own,
    read_owns,
    read_shared_header,
)

Array = npt.NDArray[np.generic]

OWN, OWN_END, SHARED_HEADERS, SHARED_HEADERS_END, SHARED_HEADER_OF, DIGEST = (
    "own.text", "own.end", "common.text", "common.end", "common.of", "digest",
)  # fmt: skip
_COLUMNS = {OWN, OWN_END, SHARED_HEADERS, SHARED_HEADERS_END, SHARED_HEADER_OF, DIGEST}
_MOST_TEXT = 8 * MAX_TEXT + 2 * MAX_CLASS_NAMES
_MOST_AXES = 3
_INDEX = 4


class PackRecord(Record, frozen=True, omit_defaults=True):
    """Header of one pack of tasks; `named` is how many have a name that their reference does not make, `short` whether
    their own files have the short form (short.py).
    """

    max_bytes: ClassVar[int] = MAX_PACK_BYTES

    format_version: Literal[2]
    tasks: Annotated[int, Meta(ge=1, le=MAX_PACKED)]
    named: Annotated[int, Meta(ge=0, le=MAX_PACKED)]
    short: bool = False
    digest: Digest = ""


@dataclass(frozen=True, eq=False)
class Pack:
    """A pack that is open: its columns are views of the file, which is mapped and not read.

    Tasks are numbered from 0, in ascending order of the bytes of their names.
    """

    path: Path
    record: PackRecord
    mapped: mmap.mmap
    columns: Mapping[str, Array]
    parts: Mapping[str, Array]
    own_start: int
    """Where in the file the column of texts begins."""

    def __len__(self) -> int:
        return len(self.columns[DIGEST])

    @property
    def row_bytes(self) -> int:
        """Bytes of a task in all columns but its text."""
        return 2 * _INDEX + DIGITS // 2 + sum(column[:1].nbytes for column in self.parts.values())

    @property
    def shapes(self) -> dict[str, Tensor]:
        """Type and shape that each part has in every task."""
        return {name: Tensor(column.dtype, column.shape[1:]) for name, column in self.parts.items()}

    def find(self, name: str) -> int | None:
        """The number of the task of this name, by binary search.

        Raises:
            FormatError: the texts that were looked at are damaged.
        """
        wanted, low, high = name.encode(), 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._name_bytes(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self.name(low) == name else None

    def find_task(self, reference: str) -> list[str]:
        """Names of all tasks that were learned from this reference.

        Where every name is made from its reference, there is one at most, found by its name; else all texts are
        searched.

        Raises:
            FormatError: the texts that were looked at are damaged.
        """
        if not self.record.named:
            name = default_name(reference)
            number = None if name is None else self.find(name)
            return [name] if name and number is not None and self.own(number)[1] == reference else []
        beginning, ends, found = msgspec.json.encode(reference) + b",", self.columns[OWN_END], []
        first, at = self.own_start, self.own_start
        while (at := self.mapped.find(beginning, at, first + len(self.columns[OWN]))) >= 0:
            number = int(np.searchsorted(ends, at - first, side="right"))
            if number < len(self) and at - first == (int(ends[number - 1]) if number else 0):
                found.append(self.name(number))
            at += 1
        return found

    def name(self, number: int) -> str:
        """The name of one task.

        Raises:
            FormatError: its text is damaged.
        """
        return self.own(number)[0]

    def _name_bytes(self, number: int) -> bytes:
        """As name, without decoding where a plain reference makes it: a search looks at twenty of these."""
        text = self.text(number, OWN, OWN_END)
        end = text.find(b'"', 1)
        if text.startswith(b'"') and text.endswith(b",null") and b"\\" not in text and end > 1:
            return text[1:end].replace(b"/", b"-")
        return self.name(number).encode()

    def own(self, number: int) -> OwnText:
        """Name, reference and both accuracies of one task.

        Raises:
            FormatError: its text is damaged.
        """
        try:
            return read_own(self.text(number, OWN, OWN_END))
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise FormatError(self.path, f"task {number} has no valid text ({error})") from error

    def texts(self) -> list[bytes]:
        """The texts of all tasks: of what each has to itself.

        Raises:
            FormatError: where one ends is not after where it starts.
        """
        ends = self.columns[OWN_END].astype(np.int64)
        if (np.diff(ends, prepend=0) <= 0).any() or ends[-1] > len(self.columns[OWN]):
            raise FormatError(self.path, f"{OWN_END} does not ascend to the end of {OWN}")
        content, places = self.columns[OWN].tobytes(), [0, *ends.tolist()]
        return [content[first:last] for first, last in pairwise(places)]

    def owns(self) -> list[OwnText]:
        """Name, reference and both accuracies of every task, fast.

        Raises:
            FormatError: a text is damaged.
        """
        try:
            return read_owns(self.texts())
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise FormatError(self.path, f"a task has no valid text ({error})") from error

    def text(self, number: int, texts: str, ends: str) -> bytes:
        """One text of a column of texts.

        Raises:
            FormatError: where it ends is not after where it starts, or it is too long.
        """
        last = int(self.columns[ends][number])
        first = int(self.columns[ends][number - 1]) if number else 0
        if not first < last <= min(len(self.columns[texts]), first + _MOST_TEXT):
            raise FormatError(self.path, f"{texts}[{number}] goes from byte {first} to {last}")
        return self.columns[texts][first:last].tobytes()

    def shared_bytes(self, number: int) -> bytes:
        """What this task's text has in common with others.

        Raises:
            FormatError: there is no such text.
        """
        index = int(self.columns[SHARED_HEADER_OF][number])
        if index >= len(self.columns[SHARED_HEADERS_END]):
            raise FormatError(self.path, f"task {number} has common text {index}, there is none")
        return self.text(index, SHARED_HEADERS, SHARED_HEADERS_END)

    def shared_header(self, index: int) -> SharedHeader:
        """What the tasks that have this common text are alike in.

        Raises:
            FormatError: the text is damaged.
        """
        try:
            return read_shared_header(self.text(index, SHARED_HEADERS, SHARED_HEADERS_END))
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise FormatError(self.path, f"{SHARED_HEADERS}[{index}] is not valid ({error})") from error

    def content(self, number: int) -> bytes:
        """The bytes of the task's own file.

        Raises:
            FormatError: its texts are damaged, or it has a part that no task has.
        """
        text = TaskText(self.text(number, OWN, OWN_END), self.shared_bytes(number))
        digest = self.columns[DIGEST][number].tobytes()
        tensors = {name: column[number] for name, column in self.parts.items()}
        if self.record.short:
            return short_file(self.path, text, digest, tensors)
        try:
            return long_file(text, digest.hex().encode(), tensors)
        except UnicodeError as error:
            raise FormatError(self.path, f"task {number} has no valid text ({error})") from error


def open_pack(path: Path) -> Pack:
    """Map a pack, and check that its columns belong together; what is in them is checked where it is read.

    Raises:
        FormatError: missing, no plain file, too large, or no pack.
    """
    with open_limited(path, MAX_PACK_BYTES) as (descriptor, size):
        if not size:
            raise FormatError(path, "is not a safetensors file (cut short or damaged)")
        mapped = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    beginning = mapped[: 8 + MAX_HEADER_BYTES]
    refuse_pointer(path, beginning)
    header = parse_header(path, beginning, size)
    tensors = {}
    for name, tensor in header.tensors.items():
        first, last = tensor.data_offsets
        content = memoryview(mapped)[header.start + first : header.start + last]
        tensors[name] = np.frombuffer(content, dtype=tensor.numpy).reshape(tensor.shape)
    columns = {name: tensors.pop(name) for name in _COLUMNS & set(tensors)}
    own_start = header.start + header.tensors[OWN].data_offsets[0] if OWN in columns else 0
    record = decode_record(path, header.record, PackRecord)
    pack = Pack(path, record, mapped, columns, in_file_order(tensors), own_start)
    _check_columns(pack)
    return pack


def _check_columns(pack: Pack) -> None:
    columns, path = pack.columns, pack.path
    if set(columns) != _COLUMNS:
        raise FormatError(path, f"is no pack of tasks: it lacks {sorted(_COLUMNS - set(columns))}")
    if not pack.parts:
        raise FormatError(path, "has no part of any task")
    for name in (OWN, SHARED_HEADERS):
        if columns[name].dtype != np.uint8 or columns[name].ndim != 1:
            raise FormatError(path, f"{name} is {columns[name].dtype} {columns[name].shape}, expected a row of bytes")
    for name in (OWN_END, SHARED_HEADERS_END, SHARED_HEADER_OF):
        if columns[name].dtype != np.uint32 or columns[name].ndim != 1:
            raise FormatError(path, f"{name} is {columns[name].dtype} {columns[name].shape}, expected a row of uint32")
    digests, tasks = columns[DIGEST], len(columns[OWN_END])
    if digests.dtype != np.uint8 or digests.shape != (tasks, DIGITS // 2) or tasks > MAX_PACKED:
        raise FormatError(path, f"digest is {digests.dtype} {digests.shape}, expected uint8 ({tasks}, {DIGITS // 2})")
    for name, column in {SHARED_HEADER_OF: columns[SHARED_HEADER_OF], **pack.parts}.items():
        if len(column) != tasks or column.ndim > _MOST_AXES:
            raise FormatError(path, f"{name} is {column.dtype} {column.shape}, expected {tasks} rows")
