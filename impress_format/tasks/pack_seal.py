"""A pack as a whole: how one is made of its tasks, and checked against its checksum, its record and its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from impress_format.container.sealed_file import check_sealed, seal_tensors
from impress_format.errors import FormatError
from impress_format.tasks.pack import (
    DIGEST,
    OWN,
    OWN_END,
    SHARED_HEADER_OF,
    SHARED_HEADERS,
    SHARED_HEADERS_END,
    Array,
    Pack,
    PackRecord,
)
from impress_format.tasks.text import TaskText, is_nameless

NAME_DIGITS = 16
"""Hex digits of a pack's digest that name its file."""


def check_seal(pack: Pack) -> None:
    """Check the whole file against its checksum, its record and its name.

    Raises:
        FormatError: it is damaged.
    """
    record = check_sealed(pack.path, pack.mapped, PackRecord)
    try:
        named = sum(not is_nameless(text) for text in pack.texts())
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise FormatError(pack.path, f"a task has no valid text ({error})") from error
    if record.named != named:
        raise FormatError(pack.path, f"says that {record.named} tasks have names of their own, {named} have")
    if record.tasks != len(pack):
        raise FormatError(pack.path, f"says it has {record.tasks} tasks, its columns have {len(pack)}")
    if pack.path.name != f"{record.digest[:NAME_DIGITS]}.safetensors":
        raise FormatError(pack.path, f"has digest {record.digest}, with which its name must begin")


def seal_pack(
    texts: Sequence[TaskText], digests: npt.NDArray[np.uint8], parts: Mapping[str, Array], *, short: bool
) -> tuple[str, bytes]:
    """The name and the bytes of the pack of these tasks, in ascending order of their names.

    Args:
        digests: (N, 16), of each task's own file.
        parts: for each part a column (N, ...).
        short: whether their own files have the short form.
    """
    shared_bytes: dict[bytes, int] = {}
    of = np.array([shared_bytes.setdefault(text.shared_bytes, len(shared_bytes)) for text in texts], dtype="<u4")
    columns: dict[str, Array] = {
        OWN: _joined([text.own for text in texts]),
        OWN_END: _ends([text.own for text in texts]),
        SHARED_HEADERS: _joined(list(shared_bytes)),
        SHARED_HEADERS_END: _ends(list(shared_bytes)),
        SHARED_HEADER_OF: of,
        DIGEST: digests,
        **parts,
    }
    named = sum(not is_nameless(text.own) for text in texts)
    content = seal_tensors(PackRecord(format_version=2, tasks=len(texts), named=named, short=short), columns)
    record = check_sealed(Path("pack"), content, PackRecord)
    return f"{record.digest[:NAME_DIGITS]}.safetensors", content


def _joined(texts: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(texts), dtype=np.uint8)


def _ends(texts: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    return np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))).astype("<u4")
