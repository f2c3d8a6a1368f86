"""`impress zoo` as its users see it: JSON keys, exit statuses, what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_bank
from commandline import contents, run

BANK_KEYS = {"name", "title", "description", "tags", "backbone", "masks", "tasks", "bytes", "digest", "files"}


def test_from_a_push_to_a_pull(zoo: Path, bank: Path, tmp_path: Path) -> None:
    here: Any = {"cwd": tmp_path, "env": {"IMPRESS_ZOO": str(zoo)}}
    pushed = run("zoo", "push", bank, "--name", "second", "--title", "Another", "--json", **here).json
    assert set(pushed) == {*BANK_KEYS, "changed", "where"}
    listed = run("zoo", "list", "--json", **here).json["banks"]
    assert [entry["name"] for entry in listed] == ["second", "tiny"]
    assert set(listed[0]) == BANK_KEYS
    found = run("zoo", "search", "another", "--json", **here).json["banks"]
    assert [entry["name"] for entry in found] == ["second"]
    shown = run("zoo", "show", "second", "--json", **here).json
    assert set(shown) == {*BANK_KEYS, "card"}
    assert shown["card"].startswith("---\nlibrary_name: impress")
    pulled = run("zoo", "pull", "second", "--json", **here).json
    assert set(pulled) == {"bank", "name", "digest", "bytes", "fetched", "kept", "source"}
    assert contents(tmp_path / "second.impress") == contents(bank)
    verified = run("zoo", "verify", "--json", **here)
    assert (verified.code, verified.json["ok"], verified.json["errors"]) == (0, True, [])


def test_for_people(zoo: Path, tmp_path: Path) -> None:
    assert "A tiny bank" in run("zoo", "list", "--zoo", zoo, cwd=tmp_path).out
    assert "# A tiny bank" in run("zoo", "show", "tiny", "--zoo", zoo, cwd=tmp_path).out
    assert "all checked" in run("zoo", "pull", "tiny", "--zoo", zoo, cwd=tmp_path).out
    assert "the very same bank is there already" in run("zoo", "pull", "tiny", "--zoo", zoo, cwd=tmp_path).out


def test_settings_are_named_as_options(zoo: Path, tmp_path: Path) -> None:
    small_bank.make(tmp_path / "tiny.impress", seed=3)
    small_bank.make(tmp_path / "Tiny.impress")
    for words, said in (
        (("push", "tiny.impress", "--zoo", zoo), "choose another --name, or give --replace"),
        (("push", "Tiny.impress", "--zoo", zoo), "give --name"),
        (("list", "--zoo", tmp_path / "none"), "--zoo takes a folder, https://…/ or hf://OWNER/NAME"),
    ):
        refused = run("zoo", *words, cwd=tmp_path)
        assert (refused.code, said in refused.err) == (2, True), refused.err


def test_a_damaged_zoo_ends_verify_with_1_and_names_the_file(zoo: Path, tmp_path: Path) -> None:
    (zoo / "tiny.impress" / "bank.json").write_bytes(b"{}")
    done = run("zoo", "verify", "--zoo", zoo, "--json", cwd=tmp_path)
    assert done.code == 1
    assert [error["file"] for error in done.json["errors"]] == ["tiny.impress/bank.json"]
    pulled = run("zoo", "pull", "tiny", "--zoo", zoo, cwd=tmp_path)
    assert pulled.code == 1
    assert not (tmp_path / "tiny.impress").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pull", "tinny"), "did you mean tiny"),
        (("show", "nothing-like-it"), "impress zoo list"),
        (("list", "--zoo", "nowhere"), "there is no such folder"),
        (("list", "--zoo", "ftp://host/zoo"), "a zoo is a folder"),
        (("list", "--zoo", "."), "is not a zoo"),
        (("push", "nowhere.impress"), "there is no bank"),
        (("push", "source/tiny.impress", "--zoo", "https://host/zoo"), "only read"),
        (("push", "source/tiny.impress", "--name", "Not A Name"), "is an invalid name"),
        (("push", "source/tiny.impress", "--card", "none.md"), "cannot be the card"),
    ],
)
def test_wrong_use_ends_with_2_and_one_message(
    zoo: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = run("zoo", *arguments, cwd=tmp_path, env={"IMPRESS_ZOO": str(zoo)})
    assert done.code == 2, done.err
    assert words in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_a_pull_says_that_weights_are_wanted_beside_the_bank(zoo: Path, tmp_path: Path) -> None:
    over = small_bank.over_weights(tmp_path / "over.impress").path
    here: Any = {"cwd": tmp_path, "env": {"IMPRESS_ZOO": str(zoo)}}
    assert run("zoo", "push", over, **here).code == 0
    said = " ".join(run("zoo", "pull", "over", "mine.impress", **here).out.split())
    assert "weights that it does not hold, file:some.safetensors: `impress zoo show over` says" in said
    assert "weights" not in run("zoo", "pull", "tiny", **here).out


@pytest.mark.parametrize(("command", "words"), [("push", "OWNER/NAME[@BRANCH]"), ("pull", "[@REVISION]")])
def test_help_says_that_a_commit_can_be_named(command: str, words: str, tmp_path: Path) -> None:
    """Brackets are markup unless they are escaped, and vanish."""
    assert words in run("zoo", command, "--help", cwd=tmp_path).out


def test_a_page_with_pictures_stands_beside_the_card(zoo: Path, bank: Path, tmp_path: Path) -> None:
    here: Any = {"cwd": tmp_path, "env": {"IMPRESS_ZOO": str(zoo)}}
    assert run("zoo", "push", bank, "--name", "second", **here).code == 0
    page = (zoo / "second.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "](second.html)" in (zoo / "second.md").read_text()
    again = run("zoo", "push", bank, "--name", "second", "--json", **here).json
    assert again["changed"] is False
    (zoo / "second.html").write_text(page + " ")
    changed = run("zoo", "verify", "--json", **here)
    assert changed.code == 1
    assert [error["file"] for error in changed.json["errors"]] == ["second.html"]
    (zoo / "second.html").unlink()
    verified = run("zoo", "verify", "--json", **here)
    assert verified.code == 1
    assert verified.json["errors"] == [{"file": "second.html", "error": "is missing: the model card links to it"}]
    assert run("zoo", "push", bank, "--name", "second", **here).code == 0
    assert (zoo / "second.html").read_text() == page
