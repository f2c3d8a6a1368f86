"""Weights of timm and the Hub: a bank stays on those it was made with, whatever comes after them upstream."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub
from safetensors.torch import load_file, save
from test_pretrained import ARCH, make, trained

from impress_format import open_bank
from impress_format.errors import BackboneMismatch, DataError, UsageError
from impress_format.records.network import PretrainedRecord
from impress_learn import load_bank
from impress_learn.jobs import evaluate
from impress_learn.network.kept_weights import find_weights
from impress_learn.network.pretrained import add_weights, load_weights

FILE = "model.safetensors"
TAG = "r160_in1k"
CPU = torch.device("cpu")


def file_of(seed: int) -> dict[str, bytes]:
    return {FILE: save(trained(seed=seed).state_dict(), metadata={"license": "mit"})}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are kept."""
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache of huggingface_hub."""
    return tmp_path / "hub-cache"


@pytest.fixture(params=["hf-hub", "timm"])
def hub(request: pytest.FixtureRequest, kept: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with the weights of seed 0 as its newest, under a repository's name or as timm's tag."""
    with FakeHub("someone/net" if request.param == "hf-hub" else f"timm/test_resnet.{TAG}") as running:
        running.take_the_place_of_the_hub(cache, monkeypatch)
        running.add_commit(file_of(0))
        yield running


@pytest.fixture
def source(hub: FakeHub) -> str:
    """As `--weights` takes it."""
    return "hf-hub:someone/net" if hub.repo == "someone/net" else f"timm:{TAG}"


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def record_of(path: Path) -> PretrainedRecord:
    record = open_bank(path).backbone.pretrained
    assert record is not None
    return record


def forget(folder: Path) -> None:
    shutil.rmtree(folder)


def without_revision(record: PretrainedRecord) -> PretrainedRecord:
    """As a release that recorded none made it."""
    return PretrainedRecord(source=record.source, tensors=record.tensors, licence=record.licence)


def test_a_bank_records_the_commit_and_keeps_a_copy(hub: FakeHub, source: str, tmp_path: Path, kept: Path) -> None:
    record = record_of(make(tmp_path / "a.impress", source))
    assert record.revision == hub.head
    assert record.address == f"{record.source}@{hub.head}"
    (copy,) = kept.iterdir()
    assert load_file(copy).keys() == record.tensors.keys()


def test_it_is_used_without_the_hub_after_upstream_moved(
    hub: FakeHub, source: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "a.impress", source)
    hub.add_commit(file_of(1))
    forget(cache)
    go_offline(monkeypatch)
    assert len(evaluate(path, basis=True)) == 1


def test_an_old_snapshot_of_the_cache_is_found_by_what_is_in_it(
    hub: FakeHub, source: str, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a bank that does not say its revision, where the cache's newest is another."""
    record = without_revision(record_of(make(tmp_path / "a.impress", source)))
    hub.add_commit(file_of(1))
    hub.add_commit(file_of(2))
    load_weights(source, ARCH)  # the cache has the newest, too
    forget(kept)
    go_offline(monkeypatch)
    assert torch.equal(find_weights(record)["fc.weight"], trained().state_dict()["fc.weight"])
    assert len(list(kept.iterdir())) == 1  # and next time they are at hand


def test_the_recorded_commit_is_downloaded_and_not_the_newest(
    hub: FakeHub, source: str, tmp_path: Path, cache: Path, kept: Path
) -> None:
    record = record_of(make(tmp_path / "a.impress", source))
    hub.add_commit(file_of(1))
    forget(cache)
    forget(kept)
    find_weights(record)
    assert {commit for commit, _, _ in hub.asked} <= {"main", record.revision}
    assert [path.name for path in cache.glob("models--*/snapshots/*")] == [record.revision]


def test_a_revision_can_be_asked_for(hub: FakeHub, source: str, tmp_path: Path) -> None:
    first = hub.head
    hub.add_commit(file_of(1))
    record = record_of(make(tmp_path / "a.impress", f"{source}@{first}"))
    assert record.revision == first
    assert not record.source.endswith(first)
    newest = record_of(make(tmp_path / "b.impress", f"{source}@main"))
    assert newest.revision == hub.head
    assert newest.identity != record.identity


def test_the_same_command_resumes_over_the_weights_it_began_with(hub: FakeHub, source: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.impress", source)
    before = (path / "bank.json").read_bytes()
    hub.add_commit(file_of(1))
    mask = path / "masks" / "00001.safetensors"
    content = mask.read_bytes()
    mask.unlink()
    make(path, source)
    assert (mask.read_bytes(), (path / "bank.json").read_bytes()) == (content, before)
    with pytest.raises(UsageError, match="exists with other settings"):
        make(path, f"{source}@main")


def test_what_is_nowhere_is_named_with_its_commit_and_mended_by_weights_add(
    hub: FakeHub, source: str, tmp_path: Path, cache: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = open_bank(make(tmp_path / "a.impress", source))
    (tmp_path / "mine.safetensors").write_bytes(hub.commits[hub.head][FILE])
    forget(cache)
    forget(kept)
    go_offline(monkeypatch)
    with pytest.raises(DataError, match="weights that are not here") as error:
        load_bank(bank, CPU)
    message = str(error.value)
    assert record_of(bank.path).address in message
    assert f"https://huggingface.co/{hub.repo}/tree/{hub.head}" in message
    assert message.endswith(f"give it once: impress weights add {FILE}")
    assert len(message.splitlines()) <= 2
    add_weights(tmp_path / "mine.safetensors")
    load_bank(bank, CPU)


def test_where_only_others_are_had_the_message_says_so_and_what_mends_it(
    hub: FakeHub, source: str, tmp_path: Path, cache: Path, kept: Path
) -> None:
    record = without_revision(record_of(make(tmp_path / "a.impress", source)))
    hub.commits[hub.add_commit(file_of(1))] = file_of(1)
    forget(cache)
    forget(kept)
    with pytest.raises(BackboneMismatch, match=r"tensor \S+ is not that of the bank") as error:
        find_weights(record)
    assert f"https://huggingface.co/{hub.repo}/commits/main" in str(error.value)
    assert str(error.value).endswith(f"impress weights add {FILE}")


@pytest.mark.parametrize("damage", ["other numbers", "cut short"])
def test_a_damaged_copy_gives_way(
    damage: str, hub: FakeHub, source: str, tmp_path: Path, cache: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(make(tmp_path / "a.impress", source))
    (copy,) = kept.iterdir()
    (tmp_path / "mine.safetensors").write_bytes(whole := copy.read_bytes())
    go_offline(monkeypatch)
    copy.unlink()  # it may be the very file of the cache
    copy.write_bytes(file_of(1)[FILE] if damage == "other numbers" else whole[:-100])
    find_weights(record)  # that of the cache of huggingface_hub
    assert copy.read_bytes() == whole
    copy.unlink()
    copy.write_bytes(whole[:-100])
    forget(cache)
    with pytest.raises(BackboneMismatch, match="cannot be read"):
        find_weights(record)
    add_weights(tmp_path / "mine.safetensors")
    find_weights(record)


@pytest.mark.parametrize("address", ["hf-hub:net", "hf-hub:a/b/c", "hf-hub:a b/c", "hf-hub:/c"])
def test_what_can_be_no_repository_is_refused_before_anything_is_asked(address: str) -> None:
    with pytest.raises(UsageError, match=re.escape("expected hf-hub:OWNER/NAME")):
        load_weights(address, ARCH)


@pytest.mark.parametrize("address", ["hf-hub:a/b@", "hf-hub:a/b@a b", f"timm:{TAG}@../x", f"timm:{TAG}@a@b"])
def test_what_can_be_no_revision_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is no revision"):
        load_weights(address, ARCH)
