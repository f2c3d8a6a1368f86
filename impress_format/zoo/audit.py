"""Every check there is on a zoo: its index, each file it names, each bank as a bank, each card."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from impress_format.disk.files import list_folder
from impress_format.errors import ImpressError, StorageError, UsageError, ZooError
from impress_format.operations.verify import Problem, Verification, verify_bank
from impress_format.zoo.card_summary import read_card
from impress_format.zoo.entry import bank_digest, file_sha256
from impress_format.zoo.index import (
    INDEX,
    MAX_CARD_BYTES,
    MAX_PAGE_BYTES,
    ZooBank,
    ZooIndex,
    bank_folder,
    find_bank,
    page_link,
)
from impress_format.zoo.local import regular_size
from impress_format.zoo.pull import fetch_file
from impress_format.zoo.sources import FolderSource, Source, read_index


def verify_zoo(source: Source, names: Sequence[str], *, on_bank: Callable[[str], None]) -> Verification:
    """Check the index and the banks of these names, all if none is given. A remote bank is downloaded to be checked.

    Raises:
        UsageError: there is no zoo, or no bank of a name.
        StorageError: the zoo's folder may not be looked into, or there is no place to download to. Anything wrong
            inside a zoo is reported, not raised.
    """
    try:
        index = read_index(source)
    except ZooError as error:
        return Verification(checked=1, problems=(Problem(INDEX, str(error)),))
    banks = [find_bank(index, name) for name in names] if names else list(index.banks)
    checked, problems = 1, list(_strays(source, index)) if not names else []
    for bank in banks:
        on_bank(bank.name)
        problems += _bank_problems(source, bank)
        problems += _card_problems(source, bank)
        checked += len(bank.files) + 1
    return Verification(checked=checked, problems=tuple(problems))


def _bank_problems(source: Source, bank: ZooBank) -> Iterator[Problem]:
    with contextlib.ExitStack() as stack:
        if isinstance(source, FolderSource):
            folder = source.folder / bank.folder
            wrong = list(_local_problems(source, bank))
        else:
            folder = _scratch(stack)
            wrong = list(_remote_problems(source, bank, folder))
        yield from wrong
        if wrong:
            return  # what verify_bank says of a bank with bad files would be the same again
        try:
            outcome = verify_bank(folder)
            for problem in outcome.problems:
                yield Problem(f"{bank.folder}/{problem.file}", problem.error)
            if outcome.ok and bank_digest(folder) != bank.digest:
                yield Problem(bank.folder, "the bank has files that the index does not name")
        except ImpressError as error:
            yield Problem(bank.folder, str(error))


def _local_problems(source: FolderSource, bank: ZooBank) -> Iterator[Problem]:
    for file in bank.files:
        path = f"{bank.folder}/{file.path}"
        try:
            place = source.place(path)
            size = regular_size(place)
            if size is None:
                yield Problem(path, "is missing, the index names it")
            elif size != file.bytes:
                yield Problem(path, f"has {size:,} bytes, the index says {file.bytes:,}")
            elif file_sha256(place) != file.sha256:
                yield Problem(path, f"has another SHA-256 than the index says ({file.sha256[:12]}…)")
        except ImpressError as error:
            yield Problem(path, str(error))


def _scratch(stack: contextlib.ExitStack) -> Path:
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="impress-zoo-")))
    except OSError as error:
        raise StorageError(f"no place to download to, set TMPDIR: {error.strerror or error}") from error


def _remote_problems(source: Source, bank: ZooBank, folder: Path) -> Iterator[Problem]:
    for file in bank.files:
        try:
            fetch_file(source, bank, file, folder)
        except ZooError as error:
            yield Problem(f"{bank.folder}/{file.path}", str(error))


def _card_problems(source: Source, bank: ZooBank) -> Iterator[Problem]:
    try:
        card = source.read(bank.card, MAX_CARD_BYTES)
        if card is None:
            yield Problem(bank.card, "is missing: every bank of a zoo has a model card")
        else:
            text = card.decode()
            read_card(text)
            yield from _page_problems(source, bank, text)
    except UnicodeDecodeError:
        yield Problem(bank.card, "is not UTF-8 text")
    except (UsageError, ImpressError) as error:
        yield Problem(bank.card, str(error))


def _page_problems(source: Source, bank: ZooBank, card: str) -> Iterator[Problem]:
    """What is wrong with the page that a card links to, if it links to one."""
    if f"]({bank.page})" not in card:
        return
    try:
        page = source.read(bank.page, MAX_PAGE_BYTES)
    except ImpressError as error:
        yield Problem(bank.page, str(error))
        return
    if page is None:
        yield Problem(bank.page, "is missing: the model card links to it")
    elif page_link(bank.name, page) not in card:
        yield Problem(bank.page, "is not the page whose SHA-256 the model card gives")


def _strays(source: Source, index: ZooIndex) -> Iterator[Problem]:
    """Banks in the folder that the index does not name; elsewhere nobody can see them."""
    if isinstance(source, FolderSource):
        named = {bank.folder for bank in index.banks}
        try:
            names = list_folder(source.folder)
        except StorageError as error:  # a folder that may be searched, not listed: its banks can be checked
            yield Problem(".", str(error))
            return
        for name in sorted(names):
            if name.endswith(bank_folder("")) and name not in named and not name.startswith("."):
                yield Problem(name, "is a bank that the index does not name: push it, or move it away")
