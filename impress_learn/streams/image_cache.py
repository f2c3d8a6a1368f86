"""Image files decoded once, into a file that is mapped into memory from then on.

An entry is two files in the cache folder, KEY.u8 with the pixels and KEY.json with which images could be read. KEY is
the digest of all that decides about them: name and state of each file, and how the images are wanted. Two files may
have one size and one date (images without compression, copied with their dates), and whoever switches a link from one
to the other changes neither. So the state has the inode, too, and the time of its last change, which nobody can put
back. A file that was only renamed or linked is decoded once more; to make room, the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from impress_format.disk.files import make_folder, write_atomically
from impress_format.disk.locks import hold
from impress_format.errors import DataError, StorageError
from impress_format.records.manifest import Preprocess
from impress_learn.progress import Progress
from impress_learn.streams.data_dir import named_or_cache
from impress_learn.streams.image_files import ImageFile
from impress_learn.streams.read_image import decode_image
from impress_learn.streams.view import view_shape

_LAYOUT = 1
"""To be raised when the pixels of the same files come out otherwise."""
_STATE = "device inode size changed status"
"""What of each file decides. Entries of earlier releases, named by sizes and dates alone, are not found."""
_CHUNK = 256
_MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images of files.

    Attributes:
        pixels: uint8 (N, C, H, W), a memory map.
        rows: for each of the files, which image it is; -1 for one that could not be read.
    """

    pixels: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]


def decode_images(files: Sequence[ImageFile], view: Preprocess, what: str, progress: Progress) -> Decoded:
    """The images, from the cache or decoded now and kept there; what cannot be read is told and left out.

    Args:
        what: whose images they are, for people.

    Raises:
        StorageError: the cache cannot be written.
        DataError: none of the files can be read.
    """
    folder = cache_folder()
    key = entry_key(files, view)
    pixels, index = folder / f"{key}.u8", folder / f"{key}.json"
    shape = view_shape(view)
    unreadable = _read_index(index, pixels, len(files), shape)
    if unreadable is None:
        make_folder(folder)
        with hold(folder / f"{key}.lock", wait=True, busy="", remove=True):
            unreadable = _read_index(index, pixels, len(files), shape)  # another process may have been at it
            if unreadable is None:
                unreadable = _decode(files, view, pixels, progress)
                write_atomically(index, json.dumps(unreadable, sort_keys=True).encode(), replace=True)
    if unreadable:
        reasons = "; ".join(list(unreadable.values())[:_MOST_NAMED])
        more = len(unreadable) - _MOST_NAMED
        progress.remark(
            f"{what}: {len(unreadable):,} of {len(files):,} images are left out: {reasons}"
            + (f"; and {more:,} more" if more > 0 else "")
        )
    readable = np.array([file.name not in unreadable for file in files], dtype=bool)
    if not readable.any():
        raise DataError(f"{what}: none of {len(files):,} images can be read: {next(iter(unreadable.values()))}")
    rows = np.where(readable, np.cumsum(readable) - 1, -1)
    mapped = np.memmap(pixels, dtype=np.uint8, mode="r", shape=(int(readable.sum()), *shape))
    return Decoded(mapped, rows)


def cache_folder() -> Path:
    """$IMPRESS_CACHE, else a folder in the user's cache.

    Raises:
        StorageError: the variable is not set and this user has no home folder.
    """
    folder = named_or_cache("IMPRESS_CACHE", "images")
    if folder is None:
        raise StorageError("this user has no home folder to keep decoded images in: set IMPRESS_CACHE")
    return folder


def entry_key(files: Sequence[ImageFile], view: Preprocess) -> str:
    """The name of what is known of these files, wanted so."""
    wanted = msgspec.json.encode((_LAYOUT, _STATE, view.mode, view.size, view.interpolation, view.crop, view.span))
    digest = hashlib.sha256(wanted)
    for file in files:
        digest.update(os.fsencode(f"\0{file.path.absolute()}\0{file.state}"))
    return digest.hexdigest()[:32]


def _read_index(index: Path, pixels: Path, files: int, shape: tuple[int, ...]) -> dict[str, str] | None:
    """What could not be read of the files, by name; None if there is no entry, or one that is damaged."""
    try:
        unreadable = msgspec.json.decode(index.read_bytes(), type=dict[str, str])
        size = pixels.stat().st_size
    except (OSError, msgspec.DecodeError):
        return None
    return unreadable if size == (files - len(unreadable)) * prod(shape) else None


def _decode(files: Sequence[ImageFile], view: Preprocess, target: Path, progress: Progress) -> dict[str, str]:
    """Write the pixels of all files that can be read; the reasons why the others cannot, by name.

    Decoding is Pillow's, which lets go of the interpreter: as many threads as cores. Written as a file, not through a
    map, so that a full disk is an error and not a signal.
    """
    unreadable: dict[str, str] = {}
    progress.begin(len(files))
    progress.describe("decoding images")

    def read(file: ImageFile) -> bytes | DataError:
        try:
            return decode_image(file.path, view).tobytes()
        except DataError as error:
            return error

    temporary = target.with_suffix(".partial")
    try:
        with open(temporary, "wb") as out, ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(files), _CHUNK):
                chunk = files[start : start + _CHUNK]
                for file, content in zip(chunk, pool.map(read, chunk), strict=True):
                    if isinstance(content, DataError):
                        unreadable[file.name] = str(content)
                    else:
                        out.write(content)
                    progress.step()
        temporary.replace(target)
    except OSError as error:
        raise StorageError(
            f"cannot keep decoded images in {target.parent}: {error.strerror or error} "
            f"({len(files) * prod(view_shape(view)) / 1e6:,.0f} MB); another folder: IMPRESS_CACHE"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return unreadable
