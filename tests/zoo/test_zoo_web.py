"""https zoos over a server that fails as real ones do: what arrives is the bank of the index, or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import flaky_server as server_does
import pytest
from commandline import contents, run
from flaky_server import FlakyServer

from impress_format.errors import StorageError, UsageError, ZooError
from impress_format.zoo.audit import verify_zoo
from impress_format.zoo.index import INDEX, find_bank
from impress_format.zoo.pull import Pulled, pull_bank
from impress_format.zoo.sources import read_index
from impress_format.zoo.web import Patience, WebSource, open_web

MASK = "tiny.impress/masks/00001.safetensors"
QUICK = Patience(attempts=3, wait_s=0.01, longest_wait_s=0.05, timeout_s=600)
"""Asks again at once, and waits for an answer as long as a busy machine takes."""
IMPATIENT = Patience(attempts=3, wait_s=0.01, longest_wait_s=0.05, timeout_s=0.3)
"""For what the server is silent about: what it would answer might take longer on a busy machine."""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "pulled.impress"


def source_of(server: FlakyServer) -> WebSource:
    return open_web(server.url, QUICK)


def pull(server: FlakyServer, target: Path) -> Pulled:
    source = source_of(server)
    return pull_bank(source, find_bank(read_index(source), "tiny"), target, on_file=lambda path: None)


def nothing_is_there(target: Path) -> bool:
    return not os.path.lexists(target)


def test_a_pull_gives_the_very_same_bank(server: FlakyServer, target: Path, bank: Path) -> None:
    pulled = pull(server, target)
    assert contents(target) == contents(bank)
    assert (pulled.fetched, pulled.kept, pulled.already_there) == (len(contents(bank)), 0, False)
    assert [path.name for path in target.parent.iterdir() if path.name.endswith(".pull")] == []


def test_the_same_bank_is_not_fetched_twice(server: FlakyServer, target: Path) -> None:
    pull(server, target)
    asked = len(server.requests(MASK))
    assert pull(server, target).already_there
    assert len(server.requests(MASK)) == asked


def test_a_cut_connection_resumes_at_the_byte_where_it_broke(server: FlakyServer, target: Path, bank: Path) -> None:
    server.answers[MASK] += [server_does.cut(100), server_does.cut(50)]
    pull(server, target)
    assert [seen.range for seen in server.requests(MASK)] == [None, "bytes=100-", "bytes=150-"]
    assert contents(target) == contents(bank)


def test_a_server_without_ranges_sends_the_whole_file_again(server: FlakyServer, target: Path, bank: Path) -> None:
    server.answers[MASK] += [server_does.cut(100), server_does.no_ranges]
    pull(server, target)
    assert contents(target) == contents(bank)


def test_another_range_than_the_one_asked_for_is_not_taken(server: FlakyServer, target: Path, bank: Path) -> None:
    server.answers[MASK] += [server_does.cut(100), server_does.other_range]
    pull(server, target)
    assert contents(target) == contents(bank)


def test_a_cut_index_is_asked_for_again(server: FlakyServer, target: Path, bank: Path) -> None:
    server.answers[INDEX] += [server_does.cut(10)]
    pull(server, target)
    assert contents(target) == contents(bank)


@pytest.mark.parametrize("times", [1, 9])
def test_wrong_bytes_are_never_put_into_place(server: FlakyServer, target: Path, times: int) -> None:
    server.answers[MASK] += [server_does.wrong_bytes] * times
    with pytest.raises(ZooError, match=r"00001\.safetensors has other bytes than the index says"):
        pull(server, target)
    assert nothing_is_there(target)


def test_after_wrong_bytes_the_next_pull_is_whole(server: FlakyServer, target: Path, bank: Path) -> None:
    server.answers[MASK] += [server_does.wrong_bytes]
    with pytest.raises(ZooError):
        pull(server, target)
    pulled = pull(server, target)
    assert pulled.kept > 0
    assert contents(target) == contents(bank)


@pytest.mark.parametrize(
    "answer", [server_does.too_many(declared=True), server_does.too_many(declared=False), server_does.endless]
)
def test_more_bytes_than_the_index_says_are_refused(
    server: FlakyServer, target: Path, answer: server_does.Answer
) -> None:
    server.answers[MASK] += [answer] * 5
    with pytest.raises(ZooError, match="the index"):
        pull(server, target)
    assert nothing_is_there(target)


def test_an_endless_index_is_given_up(server: FlakyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impress_format.zoo.sources.MAX_INDEX_BYTES", 1 << 16)
    server.answers[INDEX] += [server_does.endless]
    with pytest.raises(ZooError, match="is larger than"):
        read_index(source_of(server))


def test_a_file_that_is_not_there_is_named(server: FlakyServer, target: Path) -> None:
    server.answers[MASK] += [server_does.status(404)]
    with pytest.raises(ZooError, match=r"00001\.safetensors: is not there"):
        pull(server, target)
    assert nothing_is_there(target)


def test_an_address_without_an_index_is_no_zoo(server: FlakyServer) -> None:
    with pytest.raises(UsageError, match=r"holds no index\.json"):
        read_index(open_web(server.url + "nowhere/", QUICK))


def test_a_busy_server_is_asked_again_when_it_says(server: FlakyServer, target: Path, bank: Path) -> None:
    server.answers[MASK] += [server_does.status(429, Retry_After="0"), server_does.status(503)]
    pull(server, target)
    assert contents(target) == contents(bank)


def test_a_long_retry_after_is_cut_to_the_longest_wait(
    server: FlakyServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("impress_format.zoo.web.time.sleep", waits.append)
    server.answers[MASK] += [server_does.status(429, Retry_After="3600")]
    pull(server, target)
    assert waits == [QUICK.longest_wait_s]


def test_a_redirect_to_an_invalid_address_is_given_up_at_once(server: FlakyServer, target: Path) -> None:
    server.answers[MASK] += [server_does.status(302, Location="http://[half/")]
    with pytest.raises(ZooError, match="invalid address"):
        pull(server, target)
    assert len(server.requests(MASK)) == 1


@pytest.mark.parametrize(
    "base", ["https://host/a b", "https://hóst/", "https://host:0/", "https:///path", "https://u@h/"]
)
def test_an_invalid_address_is_refused(base: str) -> None:
    with pytest.raises(UsageError, match="invalid address, expected https://HOST/PATH/"):
        open_web(base)


@pytest.mark.parametrize(("answer", "words"), [(500, "answered 500, after 3 attempts"), (403, "answered 403")])
def test_a_server_that_stays_broken_is_given_up_with_its_answer(
    server: FlakyServer, target: Path, answer: int, words: str
) -> None:
    server.answers[MASK] += [server_does.status(answer)] * 9
    with pytest.raises(ZooError, match=words):
        pull(server, target)
    assert nothing_is_there(target)


@pytest.mark.parametrize("answer", [server_does.silent, server_does.slow])
def test_a_server_that_falls_silent_is_given_up_and_what_came_is_kept(
    server: FlakyServer, target: Path, bank: Path, answer: server_does.Answer
) -> None:
    server.answers[MASK] += [answer] * 9
    source = source_of(server)

    def be_impatient(path: str) -> None:
        source.patience = IMPATIENT if MASK.endswith(path) else QUICK

    with pytest.raises(ZooError, match="the same command resumes from there"):
        pull_bank(source, find_bank(read_index(source), "tiny"), target, on_file=be_impatient)
    assert nothing_is_there(target)
    server.answers[MASK].clear()
    assert pull(server, target).kept > 0
    assert contents(target) == contents(bank)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="refused"):
        read_index(open_web("http://127.0.0.1:9/", QUICK))


def test_a_redirect_away_from_https_is_not_followed(server: FlakyServer) -> None:
    server.answers[INDEX] += [server_does.status(302, Location="http://example.org/index.json")]
    with pytest.raises(ZooError, match="only https is followed"):
        read_index(source_of(server))


@pytest.mark.parametrize("address", ["http://example.org/zoo", "https://", "https://me@host/", "https://host/?a=1"])
def test_addresses_that_are_not_taken(address: str) -> None:
    with pytest.raises(UsageError):
        open_web(address)


def test_verify_checks_what_the_server_sends(server: FlakyServer) -> None:
    assert verify_zoo(source_of(server), (), on_bank=lambda name: None).ok
    server.answers[MASK] += [server_does.wrong_bytes]
    server.answers["tiny.md"] += [server_does.status(404)]
    problems = verify_zoo(source_of(server), (), on_bank=lambda name: None).problems
    assert [problem.file for problem in problems] == [MASK, "tiny.md"]


def test_something_else_at_the_target_is_left_alone(server: FlakyServer, target: Path) -> None:
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not bank tiny"):
        pull(server, target)
    assert contents(target) == {"mine.txt": b"mine"}


def test_a_link_where_files_gather_is_not_followed(server: FlakyServer, target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (target.parent / f".{target.name}.pull").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is a link"):
        pull(server, target)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_two_pulls_of_one_target_at_once(server: FlakyServer, target: Path, bank: Path) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            pull(server, target)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert contents(target) == contents(bank)


def test_a_killed_pull_leaves_no_bank_and_is_resumed(server: FlakyServer, target: Path, bank: Path) -> None:
    server.answers[MASK] += [server_does.slow]
    command = [sys.executable, "-m", "impress_cli", "zoo", "pull", "tiny", str(target), "--zoo", server.url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=target.parent)
    while not list(target.parent.rglob(f".{Path(MASK).name}.*.part")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert nothing_is_there(target)
    done = run("zoo", "pull", "tiny", target, "--zoo", server.url, "--json", cwd=target.parent)
    assert done.code == 0, done.err
    assert done.json["kept"] > 0
    assert contents(target) == contents(bank)
