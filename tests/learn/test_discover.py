"""A stream whose tasks nobody names: known tasks are recognised, new ones opened, learned and stored."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import small_bank
import torch

from impress_format import open_bank
from impress_format.errors import BankMismatch, TrainingDiverged, UsageError
from impress_learn.identify.discover import chunks_of, count_chunks
from impress_learn.identify.discovery import Discovery
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.jobs.discover import Discovered, discover_tasks, share_right
from impress_learn.parts.table import Parts
from impress_learn.streams.reference import parse_reference
from impress_learn.training.config import MaskTraining, TaskTraining

QUICK = TaskTraining(epochs=2)
STREAM = ("rotated-digits/60", "permuted-digits/3", "rotated-digits/60", "rotated-digits/180", "rotated-digits/30")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of four tasks, and one stored task."""
    path = tmp_path_factory.mktemp("discover") / "a.impress"
    create_bank(path, ["rotated-digits/0:360:90"], fit=MaskTraining(epochs=2))
    add_tasks(path, ["rotated-digits/30"], fit=QUICK)
    return path


@pytest.fixture
def bank(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "a.impress"))


def test_a_stream_gives_whole_chunks_of_one_task_and_no_image_twice() -> None:
    references = [parse_reference(text) for text in ("rotated-digits/60", "rotated-digits/9", "rotated-digits/60")]
    options = {"size": 100, "images": 450}
    chunks = list(chunks_of(references, **options, seed=1, data_dir=None, view=None, device=torch.device("cpu")))
    assert [str(chunk.source) for chunk in chunks] == [str(reference) for reference in references for _ in range(4)]
    assert len(chunks) == count_chunks(references, **options)
    assert {len(chunk.images) for chunk in chunks} == {100}
    same = [chunk for chunk in chunks if chunk.source == references[0]]
    rows = torch.cat([chunk.images.pixels_of(slice(None)).flatten(1) for chunk in same])
    assert len(rows.unique(dim=0)) == len(rows)
    again = list(chunks_of(references, **options, seed=1, data_dir=None, view=None, device=torch.device("cpu")))
    assert torch.equal(again[5].images.labels, chunks[5].images.labels)


def test_known_tasks_are_recognised_and_new_ones_opened_learned_and_stored(bank: Path) -> None:
    before = {path.name: path.read_bytes() for path in (bank / "tasks").glob("*.safetensors")}
    found = discover_tasks(bank, STREAM, discovery=Discovery(chunk=64, images=320), fit=QUICK)
    assert {one.task: (one.new, one.name) for one in found} == {
        "rotated-digits/60": (True, "discovered-1"),
        "permuted-digits/3": (True, "discovered-2"),
        "rotated-digits/180": (False, "mask 2"),
        "rotated-digits/30": (False, "rotated-digits-30"),
    }
    assert sum((Counter(one.taken) for one in found), Counter()) == {
        "rotated-digits/60": 10,
        "permuted-digits/3": 5,
        "rotated-digits/180": 5,
        "rotated-digits/30": 5,
    }
    assert share_right(found) >= 0.9
    stored = open_bank(bank)
    assert stored.task_names() == ["discovered-1", "discovered-2", "rotated-digits-30"]
    assert small_bank.signature_of(stored, "discovered-1") is not None
    record = stored.read_task_record("discovered-1")
    assert (record.task, small_bank.known(record.fit).epochs) == ("rotated-digits/60", 2)
    assert record.accuracy == pytest.approx(next(one.accuracy for one in found if one.name == "discovered-1"), abs=1e-4)
    assert {name: (bank / "tasks" / name).read_bytes() for name in before} == before


def test_what_a_stream_opened_is_known_to_the_next_one(bank: Path) -> None:
    discover_tasks(bank, ["rotated-digits/60"], discovery=Discovery(chunk=128, images=256), fit=QUICK)
    again = discover_tasks(
        bank, ["rotated-digits/60", "permuted-digits/3"], discovery=Discovery(chunk=128, images=256), fit=QUICK
    )
    assert [(one.name, one.new) for one in again] == [("discovered-1", False), ("discovered-2", True)]


def test_the_rule_of_supsup_gives_every_chunk_a_task_too(bank: Path) -> None:
    found = discover_tasks(
        bank, STREAM[:2], discovery=Discovery(rule="supsup", chunk=128, images=256, prefix="s"), fit=QUICK
    )
    assert sum(sum(one.taken.values()) for one in found) == 4
    assert {name for name in open_bank(bank).task_names() if name.startswith("s-")} == {
        one.name for one in found if one.new
    }


def test_chunks_are_right_where_a_task_is_kept_together_and_apart() -> None:
    def one(task: str, taken: dict[str, int]) -> Discovered:
        return Discovered(task=task, name=task, new=True, taken=taken, accuracy=0.5)

    assert share_right([one("a", {"a": 3}), one("b", {"b": 2})]) == 1.0
    assert share_right([one("a", {"a": 3, "b": 2})]) == 0.6  # two in one: the larger counts
    assert share_right([one("a", {"a": 3}), one("a", {"a": 1})]) == 0.75  # one in two, likewise


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"discovery": Discovery(chunk=1)}, UsageError, "`chunk` 1"),
        ({"discovery": Discovery(chunk=64, images=10)}, UsageError, "`images` 10"),
        ({"discovery": Discovery(prefix="a b")}, UsageError, "invalid task name 'a b-1'"),
        ({"fit": TaskTraining(holdout=0.1)}, UsageError, "holdout"),
        ({"fit": TaskTraining(epochs=1, lr=1e30)}, TrainingDiverged, "discovered-1"),
    ],
)
def test_what_cannot_be_done_is_refused_and_stores_nothing(
    bank: Path, words: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        discover_tasks(bank, ["rotated-digits/60"], **{"discovery": Discovery(images=128), **words})  # type: ignore[arg-type]
    assert open_bank(bank).task_names() == ["rotated-digits-30"]


def test_signatures_are_needed_but_for_the_rule_of_supsup(bank: Path) -> None:
    add_tasks(bank, ["rotated-digits/200"], fit=QUICK, parts=Parts(signature=False))
    with pytest.raises(BankMismatch, match="rotated-digits-200 has none"):
        discover_tasks(bank, ["rotated-digits/60"], discovery=Discovery(images=128), fit=QUICK)
    discover_tasks(bank, ["rotated-digits/60"], discovery=Discovery(images=128, rule="supsup"), fit=QUICK)
