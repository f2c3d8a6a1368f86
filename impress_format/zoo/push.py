"""From a bank on this disk into a zoo: a folder, or a repository of the Hub."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from impress_format.bank import Bank, open_bank
from impress_format.disk.files import make_folder, read_limited, write_atomically
from impress_format.disk.locks import exclusive
from impress_format.errors import FormatError, StorageError, UsageError, ZooError
from impress_format.operations.verify import verify_bank
from impress_format.zoo.card import Rebuild, model_card
from impress_format.zoo.card_summary import CardSummary, read_card
from impress_format.zoo.entry import bank_digest, make_entry
from impress_format.zoo.hub import PushedMeanwhile, check_online, commit_files, open_hub
from impress_format.zoo.index import INDEX, MAX_CARD_BYTES, MAX_PAGE_BYTES, ZooBank, ZooIndex, check_name, encode_index
from impress_format.zoo.local import copy_file, look_at
from impress_format.zoo.sources import FolderSource, Source, is_hub, is_web, read_index, zoo_name

_PUSHES = 4  # tries beside other people's pushes


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A bank ready to be pushed: checked, with its entry, its card and perhaps a page with pictures."""

    folder: Path
    entry: ZooBank
    card: str
    page: bytes | None = None

    @property
    def beside(self) -> dict[str, bytes]:
        """What stands beside the bank in a zoo, by its path."""
        page = {} if self.page is None else {self.entry.page: self.page}
        return {**page, self.entry.card: self.card.encode()}


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push did; `where` is the folder, or the address of the commit."""

    where: str
    changed: bool


def prepare(
    folder: Path,
    name: str | None,
    *,
    card: Path | None = None,
    title: str | None = None,
    description: str | None = None,
    command: str | None = None,
    data_sets: Mapping[str, str] | None = None,
    rebuild: Rebuild | None = None,
    page: Callable[[Bank], bytes] | None = None,
) -> Prepared:
    """Check the bank in `folder` and make its index entry and its card; with `card`, that file is the card.

    Args:
        data_sets: streams whose data set has an entry on the Hub, and that entry.
        rebuild: as `model_card` takes it.
        page: makes a page with pictures (HTML), to stand beside the card, which links to it.

    Raises:
        BankNotFound, BankMismatch: no bank, or masks are still to be trained.
        ZooError: the bank does not verify.
        UsageError: the name or the card cannot be used.
        StorageError: the bank may not be read.
    """
    bank = open_bank(folder)  # first: only what can be opened is sure to have a name
    # Of a link its own name, not that of where it leads.
    called = (folder if folder.name not in ("", "..") else folder.resolve()).name
    name = check_name(name if name is not None else called.removesuffix(".impress"))
    folder = folder.resolve()  # the user's own link; inside the bank none is followed
    bank.complete_masks()
    outcome = verify_bank(folder)
    if not outcome.ok:
        problem = outcome.problems[0]
        raise ZooError(f"{folder}: {problem.file} {problem.error}. A bank that does not verify is not pushed.")
    pictures = None if page is None else page(bank)
    if pictures is not None and len(pictures) > MAX_PAGE_BYTES:
        raise ZooError(f"{folder}: its page has {len(pictures):,} bytes, a zoo takes {MAX_PAGE_BYTES:,}")
    if card is None:
        text = model_card(
            folder,
            name,
            title=title,
            description=description,
            command=command,
            data_sets=data_sets,
            rebuild=rebuild,
            page=pictures,
        )
        summary = read_card(text)
    else:
        text, summary = _read_card_file(card)
    entry = make_entry(
        folder,
        name,
        title=title or summary.title,
        description=description or summary.description,
        tags=summary.tags,
    )
    return Prepared(folder=folder, entry=entry, card=text, page=pictures)


def push(prepared: Prepared, zoo: str, *, replace: bool) -> Pushed:
    """Put a bank into the zoo of this name (see `zoo_name`). The very same bank and card are there: nothing is done.

    Raises:
        UsageError: another bank of this name is there and `replace` is false, or the zoo takes no pushes.
        ZooError: the Hub refuses or cannot be reached.
        StorageError: the folder cannot be read or written.
    """
    zoo = zoo_name(zoo)
    if is_web(zoo):
        raise UsageError(f"{zoo}: a zoo behind https is only read; push to its folder, or to hf://OWNER/NAME")
    if is_hub(zoo):
        return _push_to_hub(prepared, zoo, replace=replace)
    if "://" in zoo:
        raise UsageError(f"{zoo}: push takes a folder or hf://OWNER/NAME[@BRANCH]")
    return _push_to_folder(prepared, Path(zoo), replace=replace)


def merge(index: ZooIndex, entry: ZooBank, *, replace: bool) -> ZooIndex:
    """The index with the entry in it.

    Raises:
        UsageError: it has another bank of this name, and `replace` is false.
    """
    present = next((bank for bank in index.banks if bank.name == entry.name), None)
    if present is not None and present.digest != entry.digest and not replace:
        raise UsageError(
            f"the zoo has another bank {entry.name!r} (digest {present.digest[:12]}…, yours {entry.digest[:12]}…): "
            "choose another `name`, or give `replace`"
        )
    others = tuple(bank for bank in index.banks if bank.name != entry.name)
    return msgspec.structs.replace(index, banks=(*others, entry))


def _push_to_folder(prepared: Prepared, zoo: Path, *, replace: bool) -> Pushed:
    entry = prepared.entry
    make_folder(zoo)
    source = FolderSource(zoo)
    with exclusive(zoo, wait=True):
        index = read_index(source) if look_at(zoo / INDEX) else ZooIndex()
        merged = merge(index, entry, replace=replace)
        target = source.place(entry.folder)
        taken = look_at(target) is not None
        present = taken and _digest_of(target) == entry.digest
        if present and entry in index.banks and _has(source, prepared):
            return Pushed(where=str(target), changed=False)
        if taken and not present and not replace and entry.name not in {bank.name for bank in index.banks}:
            raise UsageError(f"{target} exists and is in no index: choose another `name`, or give `replace`")
        if not present:
            _copy_bank(prepared, target)
        for path, content in prepared.beside.items():
            write_atomically(source.place(path), content, replace=True)
        # Last: what the index names is there.
        write_atomically(zoo / INDEX, encode_index(merged), replace=True)
    return Pushed(where=str(target), changed=True)


def _copy_bank(prepared: Prepared, target: Path) -> None:
    """Copy the files of the entry beside `target`, check them, and put them in its place.

    Between the two renames of a replaced bank a reader finds none; one that is reading finds other bytes than its
    index says and is told so.
    """
    staging, old = target.parent / f".{target.name}.push", target.parent / f".{target.name}.old"
    try:
        for left in (staging, old):
            if left.exists():
                shutil.rmtree(left)
        for file in prepared.entry.files:
            place = staging / file.path
            make_folder(place.parent)
            copy_file(prepared.folder / file.path, place)
        if _digest_of(staging) != prepared.entry.digest:
            raise StorageError(f"{prepared.folder} was changed while it was copied: push again when nobody works on it")
        if target.exists():
            target.rename(old)
        staging.rename(target)
        if old.exists():
            shutil.rmtree(old)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            if staging.exists():
                shutil.rmtree(staging)
            if old.exists() and not os.path.lexists(target):
                old.rename(target)  # the second rename failed: what was there comes back


def _push_to_hub(prepared: Prepared, zoo: str, *, replace: bool) -> Pushed:
    check_online(zoo)
    entry = prepared.entry
    for left in reversed(range(_PUSHES)):
        source = open_hub(zoo)
        sizes = source.sizes or {}  # None is offline only
        index = read_index(source) if INDEX in sizes else ZooIndex()
        merged = merge(index, entry, replace=replace)
        if entry in index.banks and _has(source, prepared):
            return Pushed(where=source.label, changed=False)
        add: dict[str, Path | bytes] = {
            f"{entry.folder}/{file.path}": prepared.folder / file.path for file in entry.files
        }
        stale = [path for path in sizes if path.startswith(f"{entry.folder}/") and path not in add]
        add |= prepared.beside
        add[INDEX] = encode_index(merged)
        try:
            return Pushed(where=commit_files(source, add, stale, message=f"Add bank {entry.name}"), changed=True)
        except PushedMeanwhile:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


def _read_card_file(path: Path) -> tuple[str, CardSummary]:
    try:
        text = read_limited(path, MAX_CARD_BYTES).decode()
        return text, read_card(text)
    except (FormatError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be the card: {error}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _digest_of(folder: Path) -> str | None:
    """The digest of the bank in a folder; None where there is no whole bank.

    Raises:
        StorageError: it may not be read.
    """
    try:
        return bank_digest(folder)
    except (FormatError, UsageError):
        return None


def _has(source: Source, prepared: Prepared) -> bool:
    """Whether the very same card and page are there."""
    return all(source.read(path, MAX_PAGE_BYTES) == content for path, content in prepared.beside.items())
