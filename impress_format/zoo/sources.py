"""Where the files of a zoo come from: a folder, https, the Hugging Face Hub.

A source knows paths and bytes, nothing of banks; what it hands over is checked by who asked (pull.py, verify.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from impress_format.errors import UsageError, ZooError
from impress_format.zoo.hub import open_hub
from impress_format.zoo.index import INDEX, MAX_CARD_BYTES, MAX_INDEX_BYTES, ZooBank, ZooIndex, parse_index
from impress_format.zoo.local import copy_file, is_folder, is_link, look_at, read_small, regular_size

ENVIRONMENT = "IMPRESS_ZOO"
_HUB = "hf://"
_WEB = ("https://", "http://")
_CHECKOUT_ZOO = Path(__file__).parents[2] / "zoo"


class Source(Protocol):
    """What a zoo is read from."""

    @property
    def label(self) -> str:
        """The zoo as a person would name it."""

    def read(self, path: str, limit: int) -> bytes | None:
        """A small file, or None if there is none.

        Raises:
            ZooError: it cannot be had, or is larger than `limit`.
            StorageError: a folder on this disk may not be read.
        """

    def fetch(self, path: str, part: Path, size: int) -> None:
        """Resume the file `part` until it has the `size` bytes that the index declares; what it has is kept.

        Raises:
            ZooError: it cannot be had, or is larger or smaller than declared.
            StorageError: `part` cannot be written, or a folder on this disk may not be read.
        """


class FolderSource:
    """A zoo in a folder. Links below the folder are refused: they could lead anywhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def label(self) -> str:
        return str(self.folder)

    def read(self, path: str, limit: int) -> bytes | None:
        place = self.place(path)
        return read_small(place, limit) if look_at(place) else None

    def fetch(self, path: str, part: Path, size: int) -> None:
        place = self.place(path)
        found = regular_size(place)
        if found is None:
            raise ZooError(f"{place}: is missing, the index names it")
        if found != size:
            raise ZooError(f"{place}: has {found:,} bytes, the index says {size:,}")
        copy_file(place, part)

    def place(self, path: str) -> Path:
        """Where a path of the zoo lies.

        Raises:
            ZooError: the way there goes over a link.
            StorageError: a folder on the way may not be read.
        """
        place = self.folder
        for name in path.split("/"):
            place = place / name
            if is_link(place):
                raise ZooError(f"{place}: is a link; a zoo holds plain files and folders only")
        return place


def open_source(text: str | None) -> Source:
    """The zoo a person named, or the default: $IMPRESS_ZOO, else the folder `zoo/` of this checkout.

    Raises:
        UsageError: none is named and there is no default, or the name cannot be one.
        ZooError: the Hub does not know the repository, or cannot be reached.
        StorageError: the folder may not be looked at.
    """
    text = zoo_name(text)
    if text.startswith(_HUB):
        return open_hub(text)
    if text.startswith(_WEB):
        from impress_format.zoo.web import open_web  # loads ssl and an HTTP client, which a folder has no use for

        return open_web(text)
    if "://" in text:
        raise UsageError(f"{text}: a zoo is a folder, https://…/ or hf://OWNER/NAME[@REVISION]")
    folder = Path(text)
    if not is_folder(folder):
        raise UsageError(f"{text}: there is no such folder; `zoo` takes a folder, https://…/ or hf://OWNER/NAME")
    return FolderSource(folder)


def zoo_name(text: str | None) -> str:
    """The zoo to use: as given, else $IMPRESS_ZOO, else the checkout's. An empty name is none; `~` is expanded.

    Raises:
        UsageError: there is none of these.
        StorageError: whether the checkout has one cannot be told.
    """
    if text := text or os.environ.get(ENVIRONMENT):
        return os.path.expanduser(text)  # noqa: PTH111  of an address, pathlib would make one slash of two
    # Only with an index: beside an installed package, `zoo` may be somebody else's folder.
    if look_at(_CHECKOUT_ZOO / INDEX):
        return str(_CHECKOUT_ZOO)
    raise UsageError(f"no zoo is named: give `zoo` FOLDER, https://…/ or hf://OWNER/NAME, or set {ENVIRONMENT}")


def is_hub(text: str) -> bool:
    return text.startswith(_HUB)


def is_web(text: str) -> bool:
    return text.startswith(_WEB)


def read_index(source: Source) -> ZooIndex:
    """The index of a zoo.

    Raises:
        UsageError: there is none, so this is no zoo.
        ZooError: it cannot be had, or is not what docs/zoo.md says.
    """
    content = source.read(INDEX, MAX_INDEX_BYTES)
    if content is None:
        raise UsageError(f"{source.label} holds no {INDEX}: it is not a zoo; `impress zoo push` starts one")
    return parse_index(f"{source.label}: {INDEX}", content)


def read_card_text(source: Source, bank: ZooBank) -> str | None:
    """The model card of a bank, fit to be shown: no control characters; None if there is none.

    Raises:
        ZooError: it cannot be had.
    """
    content = source.read(bank.card, MAX_CARD_BYTES)
    if content is None:
        return None
    text = content.decode(errors="replace").expandtabs()
    return "".join(character for character in text if character.isprintable() or character == "\n")
