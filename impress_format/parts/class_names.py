"""What a task calls its classes, where that is too long for its record: a zstd frame (docs/format.md, Class names)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import zstandard

from impress_format.container.codec import CodecError, decompress
from impress_format.errors import listed
from impress_format.limits import MAX_CLASS_NAMES, MAX_CLASSES, MAX_STORED_NAMES
from impress_format.parts.numbers import NumbersError
from impress_format.parts.part import Array, BankIdentity, Beside, Part
from impress_format.records.fields import NumberOf, Record, is_text

_LEVEL = 19
_MOST_NAMED = 5


class ClassSettings(Record, frozen=True, omit_defaults=True):
    """`count` is how many classes a task tells apart, 0 for as many as the backbone has outputs: a read-out has as many
    rows, and without one the first `count` outputs answer.
    """

    count: NumberOf = 0


def fit_in_record(names: Sequence[str]) -> bool:
    """Whether a task's record holds these names; a record has room for a few hundred short ones."""
    return sum(len(name.encode()) for name in names) <= MAX_CLASS_NAMES


def unstorable(names: Sequence[str]) -> str | None:
    """The first name that no bank stores (records.is_text); None if all are storable."""
    return next((name for name in names if not is_text(name)), None)


def differing_names(before: Sequence[str], now: Sequence[str]) -> str:
    """How two lists of classes differ, for people: names that are gone, names that are new, or their order."""
    gone, new = ([name for name in one if name not in set(other)] for one, other in ((before, now), (now, before)))
    words = [*([f"no longer {some_names(gone)}"] if gone else []), *([f"now also {some_names(new)}"] if new else [])]
    return ", ".join(words) or "in another order"


def some_names(names: Sequence[str]) -> str:
    """A few names of classes, for people."""
    return listed(names, _MOST_NAMED)


def store_class_names(names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """The bytes of a zstd frame of the names, a line break between two, UTF-8."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
    return np.frombuffer(compressor.compress("\n".join(names).encode()), dtype=np.uint8)


def restore_class_names(stored: npt.NDArray[np.generic]) -> tuple[str, ...]:
    """The names.

    Args:
        stored: uint8 (bytes,), as store_class_names gives them.

    Raises:
        NumbersError: no whole frame, too large, fewer than two names, or one that no class may have.
    """
    if stored.dtype != np.uint8 or stored.ndim != 1:
        raise NumbersError(f"is {stored.dtype} {stored.shape}, expected a row of bytes")
    frame = stored.tobytes()
    try:
        size = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise NumbersError(f"is no zstd frame ({error})") from error
    if not 0 < size <= MAX_STORED_NAMES:
        raise NumbersError(f"declares {size:,} bytes of names, expected 1 to {MAX_STORED_NAMES:,}")
    try:
        names = tuple(decompress(frame, size).decode().split("\n"))
    except (CodecError, UnicodeError) as error:
        raise NumbersError(f"holds no names ({error})") from error
    if not 2 <= len(names) <= MAX_CLASSES:
        raise NumbersError(f"names {len(names):,} classes, expected 2 to {MAX_CLASSES:,}")
    if (wrong := unstorable(names)) is not None:
        raise NumbersError(f"gives a class the name {wrong!r}, which none may have")
    return names


def check_number_of_names(named: int, settings: ClassSettings, beside: Beside) -> None:
    """Refuse names of other classes than a task has.

    Raises:
        NumbersError: too few, or too many. A task without a read-out that does not say how many it has may name fewer.
    """
    exact = beside.reads_out or settings.count > 0
    if named and (named != beside.classes if exact else named > beside.classes):
        raise NumbersError(f"names {named:,} classes, and has {beside.classes:,}")


def _check_settings(settings: ClassSettings, beside: Beside, _: bool) -> None:
    if not beside.reads_out and settings.count >= max(beside.backbone.classes, 1):
        raise NumbersError(
            f"has {settings.count:,} classes of its own, expected fewer than the network's "
            f"{beside.backbone.classes:,} outputs, or a head to tell them apart"
        )


def _restore(stored: Array, settings: ClassSettings, beside: Beside, _: BankIdentity) -> tuple[str, ...]:
    names = restore_class_names(stored)
    check_number_of_names(len(names), settings, beside)
    return names


def _check(stored: Array, settings: ClassSettings, beside: Beside, identity: BankIdentity) -> None:
    for one in stored:
        _restore(one, settings, beside, identity)


CLASSES: Part[ClassSettings, tuple[str, ...]] = Part(
    name="classes", letter="c", kind="label", restore=_restore, check=_check, check_settings=_check_settings
)
