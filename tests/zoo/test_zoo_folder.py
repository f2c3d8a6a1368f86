"""Zoos in folders: what is pushed is what is pulled, and an index can lead nowhere it should not."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import small_bank
from commandline import contents
from hypothesis import given, settings
from hypothesis import strategies as st

from impress_format.errors import FormatError, StorageError, UsageError, ZooError
from impress_format.zoo.audit import verify_zoo
from impress_format.zoo.entry import bank_digest, make_entry
from impress_format.zoo.index import INDEX, MAX_INDEX_BYTES, encode_index, find_bank, parse_index, search_banks
from impress_format.zoo.pull import pull_bank
from impress_format.zoo.push import prepare, push
from impress_format.zoo.sources import FolderSource, open_source, read_card_text, read_index, zoo_name

SHIPPED = Path(__file__).parents[2] / "zoo"


def pull(zoo: Path, name: str, target: Path) -> None:
    source = FolderSource(zoo)
    pull_bank(source, find_bank(read_index(source), name), target, on_file=lambda path: None)


def problems(zoo: Path) -> dict[str, str]:
    return {found.file: found.error for found in verify_zoo(FolderSource(zoo), (), on_bank=lambda name: None).problems}


def test_the_zoo_of_this_checkout_is_as_its_index_says() -> None:
    outcome = verify_zoo(open_source(str(SHIPPED)), (), on_bank=lambda name: None)
    assert outcome.ok, outcome.problems
    index = read_index(FolderSource(SHIPPED))
    assert {"digits-rotated", "mnist-rotated", "mnist-permuted"} <= {bank.name for bank in index.banks}


def test_what_is_pushed_is_what_is_pulled(zoo: Path, bank: Path, tmp_path: Path) -> None:
    assert {path.name for path in zoo.iterdir()} == {INDEX, "tiny.impress", "tiny.md", ".lock"}
    assert problems(zoo) == {}
    pull(zoo, "tiny", tmp_path / "pulled.impress")
    assert contents(tmp_path / "pulled.impress") == contents(zoo / "tiny.impress") == contents(bank)


def test_pushing_the_same_again_changes_nothing(zoo: Path, bank: Path) -> None:
    before = contents(zoo)
    assert not push(prepare(bank, None, title="A tiny bank"), str(zoo), replace=False).changed
    assert contents(zoo) == before


def test_another_bank_of_the_name_needs_replace_and_leaves_nothing_behind(zoo: Path, tmp_path: Path) -> None:
    other = small_bank.make(tmp_path / "tiny.impress", seed=3)
    other.remove_task("two")
    before = contents(zoo)
    with pytest.raises(UsageError, match="`replace`"):
        push(prepare(other.path, None), str(zoo), replace=False)
    assert contents(zoo) == before
    push(prepare(other.path, None), str(zoo), replace=True)
    assert problems(zoo) == {}
    assert contents(zoo / "tiny.impress") == contents(other.path)


def test_the_digest_is_that_of_path_and_sha256_of_every_file(bank: Path) -> None:
    import hashlib

    lines = sorted(f"{path} {hashlib.sha256(content).hexdigest()}\n" for path, content in contents(bank).items())
    assert bank_digest(bank) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_bank_that_does_not_verify_is_not_pushed(bank: Path, tmp_path: Path) -> None:
    path = bank / "masks" / "00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ZooError, match="does not verify"):
        prepare(bank, None)


def test_a_link_to_a_bank_is_followed_and_none_within_it(bank: Path, tmp_path: Path) -> None:
    link = tmp_path / "current.impress"
    link.symlink_to(bank)
    pushed = push(prepare(link, None), str(tmp_path / "zoo"), replace=False)
    assert pushed.changed
    copy = tmp_path / "zoo" / "current.impress"
    assert not copy.is_symlink()
    assert contents(copy) == contents(bank)
    task = bank / "tasks" / "one.safetensors"
    task.rename(tmp_path / "elsewhere")
    task.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ZooError, match="is not a plain file"):
        prepare(link, None)


def test_a_pull_to_a_link_to_the_very_bank_has_nothing_to_do(zoo: Path, bank: Path, tmp_path: Path) -> None:
    link = tmp_path / "current.impress"
    link.symlink_to(bank)
    source = FolderSource(zoo)
    entry = find_bank(read_index(source), "tiny")
    assert pull_bank(source, entry, link, on_file=lambda path: None).already_there


def test_pushes_at_once_are_all_kept(tmp_path: Path) -> None:
    banks = [small_bank.make(tmp_path / f"bank{number}.impress", seed=number).path for number in range(6)]
    threads = [
        threading.Thread(target=lambda path=path: push(prepare(path, None), str(tmp_path / "zoo"), replace=False))
        for path in banks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_index(FolderSource(tmp_path / "zoo")).banks) == 6
    assert problems(tmp_path / "zoo") == {}


def test_verify_names_what_is_wrong(zoo: Path, tmp_path: Path) -> None:
    mask, task = zoo / "tiny.impress/masks/00000.safetensors", zoo / "tiny.impress/tasks/one.safetensors"
    mask.write_bytes(bytes([mask.read_bytes()[0] ^ 1]) + mask.read_bytes()[1:])
    task.unlink()
    (zoo / "tiny.md").write_text("no front matter")
    shutil.copytree(zoo / "tiny.impress", zoo / "stray.impress")
    found = problems(zoo)
    assert set(found) == {
        "stray.impress", "tiny.md", "tiny.impress/masks/00000.safetensors", "tiny.impress/tasks/one.safetensors"
    }  # fmt: skip


def test_a_file_that_the_index_does_not_name_is_found(zoo: Path, tmp_path: Path) -> None:
    shutil.copy(zoo / "tiny.impress/tasks/one.safetensors", zoo / "tiny.impress/tasks/three.safetensors")
    assert problems(zoo) != {}


def test_links_in_a_zoo_are_refused(zoo: Path, tmp_path: Path) -> None:
    mask = zoo / "tiny.impress/masks/00000.safetensors"
    mask.rename(tmp_path / "elsewhere")
    mask.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ZooError, match="is a link"):
        pull(zoo, "tiny", tmp_path / "pulled.impress")
    assert not (tmp_path / "pulled.impress").exists()
    assert "is a link" in problems(zoo)["tiny.impress/masks/00000.safetensors"]


def test_a_bank_with_a_link_in_it_cannot_be_pushed(bank: Path, tmp_path: Path) -> None:
    task = bank / "tasks" / "one.safetensors"
    task.rename(tmp_path / "elsewhere")
    task.symlink_to(tmp_path / "elsewhere")
    with pytest.raises((ZooError, FormatError)):
        prepare(bank, None)


def test_a_folder_that_cannot_be_made(bank: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        push(prepare(bank, None), str(tmp_path / "file" / "zoo"), replace=False)


def test_names_that_are_near_are_offered(zoo: Path) -> None:
    with pytest.raises(UsageError, match="did you mean tiny"):
        find_bank(read_index(FolderSource(zoo)), "tinny")


def test_search_wants_every_word(zoo: Path) -> None:
    index = read_index(FolderSource(zoo))
    assert [bank.name for bank in search_banks(index, ["TINY", "lenet"])] == ["tiny"]
    assert search_banks(index, ["tiny", "elephant"]) == ()


def document(bank: Path) -> dict[str, Any]:
    entry = make_entry(bank, "tiny", title="A title", description="What it is", tags=("a",))
    from impress_format.zoo.index import ZooIndex

    return dict(json.loads(encode_index(ZooIndex(banks=(entry,)))))


def changed(name: str, value: object) -> Any:
    return lambda index: index["banks"][0].__setitem__(name, value)


def file_changed(name: str, value: object) -> Any:
    return lambda index: index["banks"][0]["files"][0].__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index.update(zoo_version=2), "upgrade"),
        (lambda index: index.update(zoo_version=0), "zoo version 0"),
        (lambda index: index.update(more=1), "not the index of a zoo"),
        (lambda index: index["banks"].append(index["banks"][0]), "twice"),
        (changed("name", "../up"), "expected a name"),
        (changed("name", "A/b"), "expected a name"),
        (changed("title", "\x1b[31mred"), "printable"),
        (changed("description", "x" * 3000), "at most"),
        (changed("tags", ["t"] * 51), "tags"),
        (changed("bytes", 1), "bytes"),
        (changed("masks", 7), "masks"),
        (changed("digest", "0" * 64), "digest"),
        (changed("files", []), r"names no bank\.json"),
        (file_changed("path", "../../etc/passwd"), "is an invalid path"),
        (file_changed("path", "/etc/passwd"), "is an invalid path"),
        (file_changed("path", "masks/../bank.json"), "is an invalid path"),
        (file_changed("path", "masks\\00000.safetensors"), "is an invalid path"),
        (file_changed("bytes", -1), "bytes, expected"),
        (file_changed("bytes", 1 << 60), "bytes, expected"),
        (file_changed("sha256", "x" * 64), "SHA-256"),
    ],
)
def test_an_index_that_lies_is_refused(bank: Path, change: Any, words: str) -> None:
    index = document(bank)
    change(index)
    with pytest.raises(ZooError, match=words):
        parse_index("here", json.dumps(index).encode())


def test_one_file_named_twice_is_refused_whatever_its_case(bank: Path) -> None:
    index = document(bank)
    twin = {**index["banks"][0]["files"][-1], "path": "tasks/ONE.safetensors"}
    index["banks"][0]["files"].append({**twin, "path": "tasks/one.safetensors"})
    with pytest.raises(ZooError, match="twice"):
        parse_index("here", json.dumps(index).encode())
    index["banks"][0]["files"][-1] = twin
    with pytest.raises(ZooError, match="twice"):
        parse_index("here", json.dumps(index).encode())


def test_an_index_with_a_key_twice_is_refused() -> None:
    with pytest.raises(ZooError, match=r"here: .*'banks' twice"):
        parse_index("here", b'{"zoo_version": 1, "banks": [], "banks": []}')


def test_a_card_that_is_no_plain_file_is_an_error_of_the_zoo(zoo: Path) -> None:
    entry = find_bank(read_index(FolderSource(zoo)), "tiny")
    (zoo / entry.card).unlink(missing_ok=True)
    (zoo / entry.card).mkdir()
    with pytest.raises(ZooError, match=entry.card):
        read_card_text(FolderSource(zoo), entry)


def test_a_folder_called_zoo_without_an_index_is_not_taken_for_one(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("IMPRESS_ZOO", raising=False)
    monkeypatch.setattr("impress_format.zoo.sources._CHECKOUT_ZOO", tmp_path)
    with pytest.raises(UsageError, match="no zoo is named"):
        zoo_name(None)


@pytest.mark.parametrize("way", ["--zoo", "IMPRESS_ZOO"])
def test_a_tilde_is_the_home_of_who_asks(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IMPRESS_ZOO", "~/zoo" if way == "IMPRESS_ZOO" else "~/nowhere")
    source = open_source("~/zoo" if way == "--zoo" else None)
    assert source.label == str(zoo)
    assert len(read_index(source).banks) == 1


def test_a_push_to_a_tilde_goes_home(bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    push(prepare(bank, None), "~/banks", replace=False)
    assert problems(tmp_path / "home" / "banks") == {}
    assert not (tmp_path / "~").exists()


def test_an_empty_name_is_none(zoo: Path, bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPRESS_ZOO", str(zoo))
    monkeypatch.chdir(bank)
    assert zoo_name("") == zoo_name(None) == str(zoo)
    push(prepare(bank, "second"), "", replace=False)
    assert not (bank / INDEX).exists()
    assert {entry.name for entry in read_index(open_source("")).banks} == {"second", "tiny"}
    monkeypatch.setenv("IMPRESS_ZOO", "")
    monkeypatch.setattr("impress_format.zoo.sources._CHECKOUT_ZOO", tmp_path / "nowhere")
    for ask in (lambda: zoo_name(""), lambda: push(prepare(bank, None), "", replace=False)):
        with pytest.raises(UsageError, match="no zoo is named"):
            ask()


def test_a_bank_may_be_named_by_its_folder(zoo: Path) -> None:
    index = read_index(FolderSource(zoo))
    assert find_bank(index, "tiny.impress") == find_bank(index, "tiny")


def test_an_index_too_large_or_too_deep_is_refused() -> None:
    for content in (b" " * (MAX_INDEX_BYTES + 1), b"[" * 100_000, b'{"zoo_version":' + b"[" * 100_000):
        with pytest.raises(ZooError):
            parse_index("here", content)


@settings(max_examples=200)
@given(data=st.data())
def test_no_bytes_make_an_index_fail_otherwise(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(_INDEX_BYTES)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not content:
            break
    with contextlib.suppress(ZooError):
        parse_index("here", bytes(content))


_INDEX_BYTES = (SHIPPED / INDEX).read_bytes() if (SHIPPED / INDEX).exists() else b"{}"
