"""hf://: pulls at one commit, pushes in one commit, with token, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_bank
from commandline import contents, run
from fake_hub import FakeHub

from impress_format.errors import UsageError, ZooError
from impress_format.zoo.audit import verify_zoo
from impress_format.zoo.hub import HubSource, open_hub
from impress_format.zoo.index import INDEX, find_bank, parse_index
from impress_format.zoo.pull import pull_bank
from impress_format.zoo.push import prepare, push
from impress_format.zoo.sources import read_index

ZOO = "hf://someone/zoo"


def pull(source: HubSource, target: Path) -> None:
    pull_bank(source, find_bank(read_index(source), "tiny"), target, on_file=lambda path: None)


@pytest.fixture
def pushed(hub: FakeHub, bank: Path) -> FakeHub:
    push(prepare(bank, None), ZOO, replace=False)
    return hub


def test_a_push_is_one_commit_with_files_card_and_index(pushed: FakeHub, bank: Path) -> None:
    (paths,) = pushed.pushes
    assert sorted(paths) == sorted([*(f"tiny.impress/{path}" for path in contents(bank)), "tiny.md", INDEX])
    assert ".gitattributes" in pushed.commits[pushed.head]


def test_a_page_goes_into_the_same_commit(pushed: FakeHub, bank: Path) -> None:
    done = push(prepare(bank, None, page=lambda _: b"<!DOCTYPE html>"), ZOO, replace=False)
    assert done.changed
    assert pushed.commits[pushed.head]["tiny.html"] == b"<!DOCTYPE html>"
    assert b"](tiny.html)" in pushed.commits[pushed.head]["tiny.md"]
    assert not push(prepare(bank, None, page=lambda _: b"<!DOCTYPE html>"), ZOO, replace=False).changed


def test_the_same_bank_is_not_pushed_twice(pushed: FakeHub, bank: Path) -> None:
    assert not push(prepare(bank, None), ZOO, replace=False).changed
    assert len(pushed.pushes) == 1


def test_a_pull_gives_the_same_bank_and_sends_the_token(pushed: FakeHub, bank: Path, tmp_path: Path) -> None:
    pull(open_hub(ZOO), tmp_path / "pulled.impress")
    assert contents(tmp_path / "pulled.impress") == contents(bank)
    assert {token for _, _, token in pushed.asked} == {"Bearer hf_secret"}


def test_all_files_come_from_the_commit_that_the_branch_had_first(pushed: FakeHub, bank: Path, tmp_path: Path) -> None:
    first = pushed.head
    source = open_hub(ZOO)
    pushed.add_commit({})  # somebody deletes everything meanwhile
    pull(source, tmp_path / "pulled.impress")
    assert contents(tmp_path / "pulled.impress") == contents(bank)
    assert {commit for commit, _, _ in pushed.asked} == {first}
    pull(open_hub(f"{ZOO}@{first}"), tmp_path / "pinned.impress")
    with pytest.raises(UsageError, match=r"holds no index\.json"):
        read_index(open_hub(ZOO))


def test_a_push_beside_another_keeps_both(hub: FakeHub, bank: Path, tmp_path: Path) -> None:
    other = prepare(small_bank.make(tmp_path / "other.impress", seed=1).path, None)

    def meanwhile() -> None:
        from impress_format.zoo.index import ZooIndex, encode_index

        files = {f"other.impress/{file.path}": (other.folder / file.path).read_bytes() for file in other.entry.files}
        hub.add_commit({**files, "other.md": other.card.encode(), INDEX: encode_index(ZooIndex(banks=(other.entry,)))})

    hub.before_commit.append(meanwhile)
    push(prepare(bank, None), ZOO, replace=False)
    assert len(hub.pushes) == 1
    index = parse_index("hub", hub.commits[hub.head][INDEX])
    assert [entry.name for entry in index.banks] == ["other", "tiny"]
    outcome = verify_zoo(open_hub(ZOO), (), on_bank=lambda name: None)
    assert outcome.ok, outcome


def test_a_branch_that_moves_all_the_time_is_given_up(hub: FakeHub, bank: Path) -> None:
    hub.before_commit += [lambda: hub.add_commit(dict(hub.commits[hub.head]))] * 9
    with pytest.raises(ZooError, match="somebody else pushed meanwhile"):
        push(prepare(bank, None), ZOO, replace=False)
    assert hub.pushes == []


def test_another_bank_of_the_name_needs_replace(pushed: FakeHub, tmp_path: Path) -> None:
    folder = small_bank.make(tmp_path / "tiny.impress", seed=5)
    folder.remove_task("two")
    other = prepare(folder.path, None)
    with pytest.raises(UsageError, match="`replace`"):
        push(other, ZOO, replace=False)
    push(other, ZOO, replace=True)
    assert "tiny.impress/tasks/two.safetensors" not in pushed.commits[pushed.head]
    assert verify_zoo(open_hub(ZOO), (), on_bank=lambda name: None).ok


def test_a_commit_cannot_be_pushed_to(pushed: FakeHub, tmp_path: Path) -> None:
    other = prepare(small_bank.make(tmp_path / "other.impress", seed=1).path, None)
    with pytest.raises(UsageError, match="name a branch"):
        push(other, f"{ZOO}@{pushed.head}", replace=False)


def test_the_hub_is_asked_again_when_it_is_busy(pushed: FakeHub) -> None:
    pushed.failures += [503, 429]
    assert len(read_index(open_hub(ZOO)).banks) == 1
    pushed.failures += [503] * 9
    with pytest.raises(ZooError, match="answered 503"):
        open_hub(ZOO)


def test_wrong_bytes_on_the_hub_are_never_put_into_place(pushed: FakeHub, tmp_path: Path) -> None:
    name = "tiny.impress/masks/00001.safetensors"
    files = dict(pushed.commits[pushed.head])
    files[name] = bytes(len(files[name]))
    pushed.add_commit(files)
    with pytest.raises(ZooError, match=r"00001\.safetensors has other bytes"):
        pull(open_hub(ZOO), tmp_path / "pulled.impress")
    assert not (tmp_path / "pulled.impress").exists()
    assert [problem.file for problem in verify_zoo(open_hub(ZOO), (), on_bank=lambda name: None).problems] == [name]
    pushed.add_commit({**files, name: bytes(1000)})
    with pytest.raises(ZooError, match="has 1,000 bytes, expected at most"):
        pull(open_hub(ZOO), tmp_path / "pulled.impress")


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("hf://someone/other", "not found|no access"),
        ("hf://someone/zoo@nowhere", "no such revision"),
        ("hf://someone", "expected hf://OWNER/NAME"),
        ("hf://some one/zoo", "expected hf://OWNER/NAME"),
    ],
)
def test_addresses_that_lead_nowhere(hub: FakeHub, address: str, error: str) -> None:
    with pytest.raises((ZooError, UsageError), match=error) as caught:
        open_hub(address)
    assert "hf_secret" not in str(caught.value)


def test_offline_what_is_in_the_cache_can_be_pulled(
    pushed: FakeHub, bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ZooError, match="HF_HUB_OFFLINE is set"):
        open_hub(ZOO)
    with pytest.raises(ZooError, match="HF_HUB_OFFLINE is set"):
        push(prepare(bank, None), ZOO, replace=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    pull(open_hub(ZOO), tmp_path / "online.impress")
    asked = len(pushed.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pull(open_hub(f"{ZOO}@{pushed.head}"), tmp_path / "offline.impress")
    assert contents(tmp_path / "offline.impress") == contents(bank)
    assert len(pushed.asked) == asked


def test_the_command_line_talks_to_hf_endpoint(pushed: FakeHub, bank: Path, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": pushed.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_secret", "IMPRESS_ZOO": ZOO}
    done = run("zoo", "pull", "tiny", cwd=tmp_path, env=env)
    assert done.code == 0, done.err
    assert contents(tmp_path / "tiny.impress") == contents(bank)
    assert done.err == ""
    refused = run("zoo", "list", cwd=tmp_path, env={**env, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")})
    assert refused.code == 1
    assert "HF_HUB_OFFLINE" in refused.err
    assert "Traceback" not in refused.err
