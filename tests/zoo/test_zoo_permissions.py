"""What may not be read or written is one of our errors, with its path and the system's words, never a bare OSError."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_bank
from commandline import contents
from flaky_server import FlakyServer

from impress_format.errors import ImpressError, StorageError, UsageError, ZooError
from impress_format.zoo import sources
from impress_format.zoo.audit import verify_zoo
from impress_format.zoo.index import INDEX, find_bank
from impress_format.zoo.pull import Pulled, pull_bank
from impress_format.zoo.push import Prepared, prepare, push
from impress_format.zoo.sources import FolderSource, open_source, read_card_text, read_index, zoo_name
from impress_format.zoo.web import Patience, open_web

NOBODY = 65534
DENIED = "Permission denied"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a zoo and banks, of a user whom modes bind: not root. pytest's own folder is below one of 0700."""
    was = os.geteuid()
    folder = Path(tempfile.mkdtemp(prefix="impress-test-", dir="/tmp"))
    folder.chmod(0o755)
    bank = small_bank.make(folder / "tiny.impress").path
    push(prepare(bank, None), str(folder / "zoo"), replace=False)
    with FlakyServer(folder / "zoo") as server:  # loads all that is imported late: nobody may not read root's Python
        source = open_web(server.url)
        pull_bank(source, find_bank(read_index(source), "tiny"), folder / "pulled.impress", on_file=lambda path: None)
    if was == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        (folder / "closed").mkdir(mode=0)
        if os.access(folder / "closed", os.R_OK, effective_ids=True):
            pytest.skip("modes do not bind this user")
        yield folder
    finally:
        os.seteuid(was)
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            path.chmod(0o700)
        shutil.rmtree(folder)


def pull(place: Path, target: Path) -> Pulled:
    source = open_source(str(place / "zoo"))
    return pull_bank(source, find_bank(read_index(source), "tiny"), target, on_file=lambda path: None)


def close(path: Path, mode: int = 0) -> Path:
    path.chmod(mode)
    return path


def denied(caught: pytest.ExceptionInfo[ImpressError], path: Path) -> None:
    assert str(path) in str(caught.value)
    assert DENIED in str(caught.value)
    assert "Errno" not in str(caught.value)


@pytest.mark.parametrize("closed", ["zoo", "."])
def test_a_zoo_that_may_not_be_entered(place: Path, closed: str) -> None:
    zoo = place / "zoo"
    close(place / closed)
    for ask in (
        lambda: read_index(open_source(str(zoo))),
        lambda: pull(place, place / "new.impress"),
        lambda: verify_zoo(open_source(str(zoo)), (), on_bank=lambda name: None),
    ):
        with pytest.raises(StorageError) as caught:
            ask()
        denied(caught, zoo)


def test_an_index_that_may_not_be_read(place: Path) -> None:
    index = close(place / "zoo" / INDEX)
    with pytest.raises(ZooError) as caught:
        read_index(open_source(str(place / "zoo")))
    denied(caught, index)
    outcome = verify_zoo(FolderSource(place / "zoo"), (), on_bank=lambda name: None)
    assert [problem.file for problem in outcome.problems] == [INDEX]
    prepared = prepare(place / "tiny.impress", None)
    with pytest.raises(ZooError) as caught:
        push(prepared, str(place / "zoo"), replace=False)
    denied(caught, index)


@pytest.mark.parametrize(
    "closed", ["tiny.impress", "tiny.impress/masks", "tiny.impress/bank.json", "tiny.impress/tasks/one.safetensors"]
)
def test_a_bank_of_a_zoo_that_may_not_be_read(place: Path, closed: str) -> None:
    path = close(place / "zoo" / closed)
    with pytest.raises(StorageError) as caught:
        pull(place, place / "new.impress")
    denied(caught, path)
    assert not (place / "new.impress").exists()
    outcome = verify_zoo(FolderSource(place / "zoo"), (), on_bank=lambda name: None)
    assert outcome.problems
    for problem in outcome.problems:
        assert problem.file.startswith(closed)
        assert DENIED in problem.error
        assert "Errno" not in problem.error


def test_a_card_that_may_not_be_read(place: Path) -> None:
    source = FolderSource(place / "zoo")
    bank = find_bank(read_index(source), "tiny")
    card = close(place / "zoo" / "tiny.md")
    with pytest.raises(ZooError) as caught:
        read_card_text(source, bank)
    denied(caught, card)
    (problem,) = verify_zoo(source, (), on_bank=lambda name: None).problems
    assert problem.file == "tiny.md"
    assert DENIED in problem.error


def test_a_zoo_that_may_be_searched_and_not_listed_is_still_verified(place: Path) -> None:
    zoo = close(place / "zoo", 0o311)
    (problem,) = verify_zoo(FolderSource(zoo), (), on_bank=lambda name: None).problems
    assert (problem.file, problem.error) == (".", f"cannot read {zoo}: {DENIED}")
    assert pull(place, place / "new.impress").fetched > 0


@pytest.mark.parametrize("mode", [0, 0o500])
def test_a_target_whose_parent_is_closed(place: Path, mode: int) -> None:
    parent = place / "parent"
    parent.mkdir()
    close(parent, mode)
    with pytest.raises(StorageError) as caught:
        pull(place, parent / "new.impress")
    denied(caught, parent)


def test_a_target_whose_parent_may_be_written_and_not_read(place: Path) -> None:
    parent = place / "parent"
    parent.mkdir()
    close(parent, 0o300)
    pull(place, parent / "new.impress")
    parent.chmod(0o700)
    assert contents(parent / "new.impress") == contents(place / "tiny.impress")


@pytest.mark.parametrize("closed", ["", "masks", "tasks/one.safetensors"])
def test_a_bank_at_the_target_that_may_not_be_read_is_not_another_one(place: Path, closed: str) -> None:
    path = close(place / "pulled.impress" / closed)
    with pytest.raises(StorageError) as caught:
        pull(place, place / "pulled.impress")
    denied(caught, path)


def test_a_manifest_at_the_target_that_may_not_be_read(place: Path) -> None:
    path = close(place / "pulled.impress" / "bank.json")
    with pytest.raises((StorageError, UsageError)) as caught:
        pull(place, place / "pulled.impress")
    denied(caught, path)


@pytest.mark.parametrize("closed", ["", "masks", "masks/00000.safetensors"])
def test_an_unfinished_pull_that_may_not_be_read(place: Path, closed: str) -> None:
    staging = place / ".new.impress.pull"
    shutil.copytree(place / "tiny.impress", staging)
    path = close(staging / closed)
    with pytest.raises(StorageError) as caught:
        pull(place, place / "new.impress")
    denied(caught, path)


def test_a_part_of_a_download_that_may_not_be_looked_at(place: Path) -> None:
    folder = place / "parts"
    folder.mkdir()
    (folder / "part").write_bytes(b"some")
    close(folder)
    with FlakyServer(place / "zoo") as server:
        source = open_web(server.url, Patience(attempts=2, wait_s=0.01))
        with pytest.raises(StorageError) as caught:
            source.fetch(INDEX, folder / "part", 10)
        denied(caught, folder / "part")
        close(folder, 0o500)
        with pytest.raises(StorageError) as caught:
            source.fetch(INDEX, folder / "part", 2)  # it has too many bytes, and cannot be removed
        denied(caught, folder / "part")
        assert server.seen == []


@pytest.fixture
def prepared(place: Path) -> Prepared:
    return prepare(place / "tiny.impress", "second")


@pytest.mark.parametrize(("closed", "mode"), [("zoo", 0), ("zoo", 0o500), (".", 0)])
def test_a_push_into_a_zoo_that_is_closed(place: Path, prepared: Prepared, closed: str, mode: int) -> None:
    (place / "zoo" / ".lock").unlink()
    path = close(place / closed, mode)
    with pytest.raises(StorageError) as caught:
        push(prepared, str(place / "zoo"), replace=False)
    denied(caught, path)


@pytest.mark.parametrize("closed", ["tiny.impress", "tiny.impress/masks", "tiny.impress/masks/00000.safetensors"])
def test_a_push_over_a_bank_that_may_not_be_read(place: Path, closed: str) -> None:
    prepared = prepare(place / "tiny.impress", None)
    path = close(place / "zoo" / closed)
    with pytest.raises(StorageError) as caught:
        push(prepared, str(place / "zoo"), replace=False)
    denied(caught, path)


@pytest.mark.parametrize("closed", ["", "masks"])
def test_a_bank_to_push_that_may_not_be_read(place: Path, closed: str) -> None:
    path = close(place / "tiny.impress" / closed)
    with pytest.raises(StorageError) as caught:
        prepare(place / "tiny.impress", None)
    denied(caught, path)


def test_a_card_to_push_that_may_not_be_read(place: Path) -> None:
    (place / "card.md").write_text("")
    card = close(place / "card.md")
    with pytest.raises(UsageError) as caught:
        prepare(place / "tiny.impress", None, card=card)
    denied(caught, card)


def test_a_file_that_is_closed_between_preparing_and_pushing(place: Path, prepared: Prepared) -> None:
    path = close(place / "tiny.impress" / "masks" / "00001.safetensors")
    with pytest.raises(StorageError) as caught:
        push(prepared, str(place / "zoo"), replace=False)
    denied(caught, path)
    assert {path.name for path in (place / "zoo").iterdir()} == {INDEX, "tiny.impress", "tiny.md", ".lock"}


def test_a_checkout_whose_zoo_is_closed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMPRESS_ZOO", raising=False)
    monkeypatch.setattr(sources, "_CHECKOUT_ZOO", close(place / "zoo"))
    with pytest.raises(StorageError) as caught:
        zoo_name(None)
    denied(caught, place / "zoo")


def test_no_place_to_download_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place / "closed"))
    with FlakyServer(place / "zoo") as server, pytest.raises(StorageError, match=f"TMPDIR: {DENIED}"):
        verify_zoo(open_web(server.url), (), on_bank=lambda name: None)
