"""A person's own image files: which there are, and what to tell of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from impress_format.errors import DataError
from impress_format.records.manifest import Preprocess
from impress_learn.streams.folder_layout import SUFFIXES, is_image
from impress_learn.streams.read_image import Notice
from impress_learn.streams.span import in_words


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files named, and for each folder the image files in it and below, sorted; hidden ones only if named.

    Raises:
        DataError: a folder has no image.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            file
            for file in path.rglob("*")
            if is_image(file.name) and not _is_hidden(file.relative_to(path)) and file.is_file()
        )
        if not inside:
            raise DataError(f"{path} holds no image ({', '.join(SUFFIXES)})")
        found += inside
    return found


def _is_hidden(path: Path) -> bool:
    """Whether a file, or a folder that it is in, is hidden: a thumbnail, or what macOS lays beside a file."""
    return any(part.startswith(".") for part in path.parts)


def tell_notices(noticed: Mapping[Notice, int], bank: Path, preprocess: Preprocess) -> list[str]:
    """What to tell people of images that a bank was asked about."""
    told = []
    if count := noticed.get("squeezed"):
        told.append(
            f"{_images(count)} squeezed to {preprocess.size[1]} x {preprocess.size[0]}: {bank} was made before banks "
            "cut out the centre; `impress bank upgrade` makes it do so, if it learned from square images"
        )
    if count := noticed.get("unscaled"):
        told.append(
            f"{_images(count)} of more than 8 bits: {bank} does not say which value is white, and takes 65,535, in "
            "grey images without a value above 255 that, and 1 where values are fractions"
        )
    if preprocess.span is not None and (count := noticed.get("off")):
        told.append(
            f"{_images(count)} of more than 8 bits with values beyond the {in_words(*preprocess.span)} that {bank} "
            "takes for black … white, or in a small part of it: it learned from images on that scale"
        )
    return told


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
