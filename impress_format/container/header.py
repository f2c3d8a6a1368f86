"""The header of a safetensors file, read strictly: every size is known to be right before a tensor is touched.

A file is eight bytes with the header's length, the header in JSON, padded with spaces, then the tensors one after the
other: they tile the rest of the file without holes, overlaps or bytes left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar, cast

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from impress_format.container.strict_json import decode_strictly
from impress_format.errors import FormatError
from impress_format.limits import MAX_AXES, MAX_HEADER_BYTES, MAX_INTEGER, MAX_LAYERS

METADATA_KEY = "impress"

_SAFETENSORS_METADATA = "__metadata__"
_LENGTH_BYTES = 8
_DTYPES: dict[str, np.dtype[np.generic]] = {
    "U8": np.dtype("u1"),
    "U32": np.dtype("<u4"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

_Offset = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
_Side = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]


class _Typed(Protocol):
    """An array, or what is known of one."""

    @property
    def dtype(self) -> np.dtype[np.generic]: ...


T = TypeVar("T", bound=_Typed)


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: Literal["U8", "U32", "F16", "F32"]
    shape: Annotated[tuple[_Side, ...], Meta(max_length=MAX_AXES)]
    data_offsets: tuple[_Offset, _Offset]

    @property
    def numpy(self) -> np.dtype[np.generic]:
        return _DTYPES[self.dtype]

    @property
    def size(self) -> int:
        return prod(self.shape) * self.numpy.itemsize


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What stands before the tensors: the record's JSON, and where each tensor is."""

    record: bytes
    tensors: dict[str, _Tensor]
    start: int


def header_of(record: bytes, tensors: Mapping[str, tuple[str, tuple[int, ...]]], start: int) -> Header:
    """A header that says where tensors are which tile a file from `start` on, in this order.

    Args:
        tensors: type, as safetensors calls it, and shape of each.
    """
    placed, end = dict[str, _Tensor](), 0
    for name, (dtype, shape) in tensors.items():
        size = prod(shape) * _DTYPES[dtype].itemsize
        placed[name] = _Tensor(cast("Any", dtype), shape, (end, end + size))
        end += size
    return Header(record=record, tensors=placed, start=start)


def parse_header(path: Path, content: bytes, size: int | None = None) -> Header:
    """Check the header of a whole safetensors file against the file's size.

    Args:
        content: the whole file, or as much of it as holds the header, and then `size` says how long the file is.

    Raises:
        FormatError: not safetensors, other metadata than one record, or tensors that do not tile the file.
    """
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    if len(content) < _LENGTH_BYTES or start > len(content):
        raise FormatError(path, "is not a safetensors file (cut short or damaged)")
    if length > MAX_HEADER_BYTES:
        raise FormatError(path, f"has a header of {length:,} bytes, expected at most {MAX_HEADER_BYTES:,}")
    text = content[_LENGTH_BYTES:start]
    if not text.startswith(b"{"):
        raise FormatError(path, "is not a safetensors file (no header)")
    try:
        metadata, tensors = decode_strictly(
            path, text, lambda given: _decode(path, given), _encode, longest=MAX_HEADER_BYTES
        )
    except (msgspec.DecodeError, UnicodeError) as error:
        raise FormatError(path, f"is not a safetensors file ({error})") from error
    _check_tiling(path, tensors, (len(content) if size is None else size) - start)
    return Header(record=metadata[METADATA_KEY].encode(), tensors=tensors, start=start)


def _decode(path: Path, text: bytes) -> tuple[dict[str, str], dict[str, _Tensor]]:
    fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    metadata = msgspec.json.decode(fields.pop(_SAFETENSORS_METADATA, b"{}"), type=dict[str, str])
    if set(metadata) != {METADATA_KEY}:
        raise FormatError(path, f"is not a file of a bank: expected one metadata key, {METADATA_KEY!r}")
    if len(fields) > MAX_LAYERS:
        raise FormatError(path, f"holds {len(fields):,} tensors, expected at most {MAX_LAYERS:,}")
    return metadata, {name: msgspec.json.decode(field, type=_Tensor) for name, field in fields.items()}


def _encode(header: tuple[dict[str, str], dict[str, _Tensor]]) -> bytes:
    """What the writer of safetensors makes of it, without the padding."""
    metadata, tensors = header
    return msgspec.json.encode({_SAFETENSORS_METADATA: metadata, **tensors})


def read_tensors(content: bytes, header: Header) -> dict[str, npt.NDArray[np.generic]]:
    """The tensors of the file that `header` was parsed from: views of it, where they stand so that they may be."""
    tensors: dict[str, npt.NDArray[np.generic]] = {}
    for name, tensor in header.tensors.items():
        start = header.start + tensor.data_offsets[0]
        flat = np.frombuffer(content, dtype=_DTYPES[tensor.dtype], count=prod(tensor.shape), offset=start)
        if not flat.flags.aligned:  # not every library takes numbers from anywhere
            flat = flat.copy()
            flat.flags.writeable = False
        tensors[name] = flat.reshape(tensor.shape)
    return tensors


def in_file_order(tensors: Mapping[str, T]) -> dict[str, T]:
    """The parts of a task as they stand in its file: those of larger numbers first, and by name among equals."""
    return dict(sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))


def write_header(text: bytes, tensors: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    """The header of a file with this record and these tensors, which follow it in this order.

    The record comes first, so that its place in the file is known (docs/format.md, Tasks).
    """
    fields, end = {}, 0
    for name, tensor in tensors.items():
        fields[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": tensor.shape,
            "data_offsets": (end, end + tensor.nbytes),
        }
        end += tensor.nbytes
    header = msgspec.json.encode({_SAFETENSORS_METADATA: {METADATA_KEY: text.decode()}, **fields})
    header += b" " * (-len(header) % _LENGTH_BYTES)
    return len(header).to_bytes(_LENGTH_BYTES, "little") + header


def _check_tiling(path: Path, tensors: dict[str, _Tensor], size: int) -> None:
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        first, last = tensor.data_offsets
        if first != end:
            raise FormatError(path, f"tensor {name!r} starts at byte {first}, expected {end}: a hole or an overlap")
        if last - first != tensor.size:
            raise FormatError(
                path, f"tensor {name!r} takes {last - first} bytes, its type and shape {tensor.shape} {tensor.size}"
            )
        end = last
    if end != size:
        raise FormatError(path, f"holds {size} bytes of tensors, its header says {end}")
