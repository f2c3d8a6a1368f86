"""`index.json` of a zoo: which banks it has, and size and SHA-256 of each of their files.

    ZOO/
      index.json
      NAME.impress/        the files of the bank, nothing else
      NAME.md              its model card, beside the folder: a bank may hold no foreign file

The index is read as what it may be, a text from a stranger: names and paths can lead nowhere, sizes are bounded,
and nothing in it can write to a terminal.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from impress_format.bank_files.table import BANK_FILES
from impress_format.container.strict_json import check_json
from impress_format.errors import FormatError, UsageError, ZooError
from impress_format.limits import (
    MAX_MANIFEST_BYTES,
    MAX_PACK_BYTES,
    MAX_TASK_BYTES,
)

INDEX = "index.json"
ZOO_VERSION = 1

MAX_INDEX_BYTES = 16 << 20
MAX_PAGE_BYTES = 64 << 20
MAX_CARD_BYTES = 1 << 20
MAX_MASK_BYTES = 1 << 30  # two masks of the largest layer there may be, as bitmaps
MAX_BANK_BYTES = 16 << 30
_MAX_TEXT = 2000
_MAX_TEXT_BYTES = 6 * _MAX_TEXT  # a character outside the basic plane, escaped, takes twelve bytes; few are
MAX_TAGS = 50

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LIMITS = (
    (re.compile(r"bank\.json", re.ASCII), MAX_MANIFEST_BYTES),
    *((re.compile(re.escape(file.name), re.ASCII), file.most_bytes) for file in BANK_FILES),
    (re.compile(r"masks/[0-9]{5}\.safetensors", re.ASCII), MAX_MASK_BYTES),
    (re.compile(r"tasks/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.safetensors", re.ASCII), MAX_TASK_BYTES),
    (re.compile(r"tasks/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.removed", re.ASCII), 0),
    (re.compile(r"packs/[0-9a-f]{16}\.safetensors", re.ASCII), MAX_PACK_BYTES),
)


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ZooFile(_Record, frozen=True):
    """One file of a bank, its path relative to the bank's folder."""

    path: str
    bytes: int
    sha256: str


class ZooBank(_Record, frozen=True):
    """One bank of a zoo. `tasks` counts loose and packed ones; `digest` is that of all its files."""

    name: str
    title: str
    description: str
    tags: tuple[str, ...]
    backbone: str
    masks: int
    tasks: int
    bytes: int
    digest: str
    files: tuple[ZooFile, ...]

    @property
    def folder(self) -> str:
        return bank_folder(self.name)

    @property
    def card(self) -> str:
        return card_name(self.name)

    @property
    def page(self) -> str:
        return page_name(self.name)


class ZooIndex(_Record, frozen=True):
    """`index.json`."""

    zoo_version: int = ZOO_VERSION
    banks: tuple[ZooBank, ...] = ()


class _VersionOnly(msgspec.Struct):
    zoo_version: int


def bank_folder(name: str) -> str:
    return f"{name}.impress"


def card_name(name: str) -> str:
    return f"{name}.md"


def page_name(name: str) -> str:
    """The page with pictures that a card links to (`impress report`), where there is one."""
    return f"{name}.html"


def page_link(name: str, page: bytes) -> str:
    """The line of a card that links to its page, and says which bytes that has."""
    digest = hashlib.sha256(page).hexdigest()
    return f"[What is in it, with pictures]({page_name(name)}): a page to open in a browser, SHA-256 `{digest}`."


def parse_index(where: str, content: bytes) -> ZooIndex:
    """The index, every name, path, size and digest in it checked; `where` is named in errors.

    Raises:
        ZooError: too large, of a newer version, or not what docs/zoo.md says.
    """
    if len(content) > MAX_INDEX_BYTES:
        raise ZooError(f"{where}: is larger than the {MAX_INDEX_BYTES:,} bytes an index may have")
    try:
        check_json(Path(where), content, longest=_MAX_TEXT_BYTES)
        version = msgspec.json.decode(content, type=_VersionOnly).zoo_version
        if version > ZOO_VERSION:
            raise ZooError(
                f"{where}: has zoo version {version}, this release reads {ZOO_VERSION}: upgrade impresslearn"
            )
        index = msgspec.json.decode(content, type=ZooIndex)
    except FormatError as error:
        raise ZooError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ZooError(f"{where}: is not the index of a zoo ({one_line(str(error))})") from error
    if version < 1:
        raise ZooError(f"{where}: has zoo version {version}, expected {ZOO_VERSION}")
    for bank in index.banks:
        if problem := entry_problem(bank):
            raise ZooError(f"{where}: bank {bank.name[:80]!r}: {problem}")
    if repeated := _first_repeated(bank.name for bank in index.banks):
        raise ZooError(f"{where}: names {repeated!r} twice")
    return index


def encode_index(index: ZooIndex) -> bytes:
    """The bytes of `index.json`: banks by name, two spaces of indent, one line break at the end."""
    ordered = msgspec.structs.replace(index, banks=tuple(sorted(index.banks, key=lambda bank: bank.name)))
    return msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n"


def find_bank(index: ZooIndex, name: str) -> ZooBank:
    """The bank of this name.

    Raises:
        UsageError: there is none; with the names that are near.
    """
    by_name = {bank.name: bank for bank in index.banks}
    wanted = name if name in by_name else name.removesuffix(".impress")  # the folder's name is taken too
    if wanted in by_name:
        return by_name[wanted]
    near = difflib.get_close_matches(wanted, by_name, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"`impress zoo list` shows the {len(by_name)} there are"
    raise UsageError(f"the zoo has no bank {name!r}: {hint}")


def search_banks(index: ZooIndex, words: Sequence[str]) -> tuple[ZooBank, ...]:
    """Banks in whose name, title, description, tags or backbone every word occurs, upper or lower case."""
    lowered = [word.lower() for text in words for word in text.split()]

    def text(bank: ZooBank) -> str:
        return "\n".join((bank.name, bank.title, bank.description, *bank.tags, bank.backbone)).lower()

    return tuple(bank for bank in index.banks if all(word in text(bank) for word in lowered))


def check_name(name: str) -> str:
    """The name, if a bank of a zoo may have it.

    Raises:
        UsageError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is an invalid name: expected up to 80 of a-z 0-9 . _ - starting with a letter or digit; "
            "give `name`"
        )
    return name


def files_digest(files: Iterable[ZooFile]) -> str:
    """SHA-256 over the sorted lines `PATH SHA256` and a line break each."""
    lines = sorted(f"{file.path} {file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def entry_problem(bank: ZooBank) -> str | None:
    """What is wrong with an entry, or None."""
    if not _NAME.fullmatch(bank.name):
        return "expected a name of up to 80 of a-z 0-9 . _ - starting with a letter or digit"
    texts = (bank.title, bank.description, bank.backbone, *bank.tags)
    if len(bank.tags) > MAX_TAGS or any(len(text) > _MAX_TEXT or not text.isprintable() for text in texts):
        return f"expected texts of at most {_MAX_TEXT} printable characters and at most {MAX_TAGS} tags"
    if problem := next(filter(None, map(_file_problem, bank.files)), None):
        return problem
    # Case folded: on many disks tasks/A and tasks/a are one file.
    if repeated := _first_repeated(file.path.casefold() for file in bank.files):
        return f"names {repeated} twice"
    return _sum_problem(bank)


def _file_problem(file: ZooFile) -> str | None:
    limit = next((limit for pattern, limit in _LIMITS if pattern.fullmatch(file.path)), None)
    if limit is None:
        return f"{file.path[:120]!r} is an invalid path: no bank has it"
    if not min(1, limit) <= file.bytes <= limit:
        return f"{file.path} has {file.bytes:,} bytes, expected {min(1, limit)} to {limit:,}"
    if not _SHA256.fullmatch(file.sha256):
        return f"{file.path}: expected 64 hex digits of SHA-256"
    return None


def _sum_problem(bank: ZooBank) -> str | None:
    paths = {file.path for file in bank.files}
    masks = sum(path.startswith("masks/") for path in paths)
    tasks = sum(path.startswith("tasks/") and path.endswith(".safetensors") for path in paths)
    packed = any(path.startswith("packs/") for path in paths)
    total = sum(file.bytes for file in bank.files)
    if "bank.json" not in paths:
        return "names no bank.json"
    if bank.masks != masks or (bank.tasks != tasks and not packed):
        return f"says {bank.masks} masks and {bank.tasks} tasks, names files of {masks} and {tasks}"
    if bank.bytes != total or total > MAX_BANK_BYTES:
        return f"says {bank.bytes:,} bytes, its files have {total:,}; at most {MAX_BANK_BYTES:,} are allowed"
    if bank.digest != files_digest(bank.files):
        return "its digest is not that of its files"
    return None


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def one_line(text: str) -> str:
    """A text that an index may hold: one line, printable, not too long."""
    joined = " ".join(text.split())
    return "".join(character for character in joined if character.isprintable())[:_MAX_TEXT]
