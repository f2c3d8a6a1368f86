"""Masks and tasks trained by several processes: the same files, and every way in which one of these can end."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from small_bank import known

from impress_format.bank import open_bank
from impress_format.errors import FormatError, TrainingDiverged, UsageError, WorkerLost
from impress_learn import (
    MaskTraining,
    Parts,
    TaskTraining,
    Workers,
    add_tasks,
    create_bank,
    discover_tasks,
    extend_bank,
    update_task,
)
from impress_learn.engines.local import scatter_here
from impress_learn.engines.work import TorchSettings
from impress_learn.progress import Progress
from impress_learn.tasks.added import AddedTask

MASKS = MaskTraining(epochs=2)
QUICK = TaskTraining(epochs=2)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@dataclass(frozen=True)
class Squares:
    """Work that takes a step for each item, and goes wrong in a way at `at`."""

    at: int | None = None
    wrong: str = ""

    def begin(self, progress: Progress) -> Callable[[int], tuple[int, int]]:
        def square(item: int) -> tuple[int, int]:
            progress.step()
            if item == self.at:
                if self.wrong == "diverges":
                    raise TrainingDiverged(f"item {item} diverged")
                if self.wrong == "damaged":
                    raise FormatError(Path("a.safetensors"), "is damaged")
                if self.wrong == "fails":
                    raise ZeroDivisionError("of all things")
                if self.wrong == "is killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.wrong == "leaves":
                    os._exit(7)
                progress.remark(f"at {item}")
            return item * item, os.getpid()

        return square

    def name(self, item: int) -> str:
        return f"number {item}"


def test_every_item_is_done_once_and_told_of() -> None:
    steps: list[None] = []
    remarks: list[str] = []
    told: list[str] = []
    progress = Progress(step=lambda: steps.append(None), remark=remarks.append, describe=told.append)
    found = list(scatter_here(Squares(at=3), range(20), workers=2, progress=progress))
    assert sorted(item for item, _ in found) == list(range(20))
    assert all(square == item * item for item, (square, _) in found)
    assert os.getpid() not in {pid for _, (_, pid) in found}
    assert len(steps) == 20
    assert remarks == ["at 3"]
    assert any("of 20 done; begun number" in one for one in told)


def test_there_are_no_more_processes_than_items() -> None:
    found = list(scatter_here(Squares(), [5], workers=8, progress=Progress()))
    assert [(item, square) for item, (square, _) in found] == [(5, 25)]


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ("diverges", TrainingDiverged, "^item 2 diverged$"),
        ("damaged", FormatError, "^a.safetensors: is damaged$"),
        ("fails", RuntimeError, r"a worker failed:\n(?s:.*)ZeroDivisionError: of all things"),
        ("is killed", WorkerLost, "was ended by SIGKILL while it was at number 2. What was finished is stored"),
        ("leaves", WorkerLost, "ended with status 7 while it was at number 2"),
    ],
)
def test_what_goes_wrong_in_a_process_is_told_here(wrong: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        list(scatter_here(Squares(at=2, wrong=wrong), range(6), workers=2, progress=Progress()))


@dataclass(frozen=True)
class Nothing:
    """Work that cannot be begun."""

    def begin(self, progress: Progress) -> Callable[[int], int]:
        os.kill(os.getpid(), signal.SIGKILL)
        return lambda item: item

    def name(self, item: int) -> str:
        return str(item)


def test_a_process_that_ends_as_it_begins_is_told_of() -> None:
    with pytest.raises(WorkerLost, match=r"was ended by SIGKILL while it was at (1|2)"):
        list(scatter_here(Nothing(), [1, 2], workers=2, progress=Progress()))


@dataclass(frozen=True)
class Sleeps:
    def begin(self, progress: Progress) -> Callable[[int], int]:
        def sleep(item: int) -> int:
            time.sleep(60 * item)
            return item

        return sleep

    def name(self, item: int) -> str:
        return str(item)


def test_who_needs_no_more_results_waits_for_no_process() -> None:
    results = scatter_here(Sleeps(), [0, 1], workers=2, progress=Progress())
    assert next(results) == (0, 0)
    results.close()  # type: ignore[attr-defined]  # a generator; the other process would sleep for a minute
    assert multiprocessing.active_children() == []


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks and tasks of one process of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("alone") / "a.impress"
    train(path, None)
    torch.set_num_threads(threads)
    return path


def train(path: Path, device: Workers | None) -> None:
    create_bank(path, ["rotated-digits/0:120:40"], fit=MASKS, device=device)
    extend_bank(path, ["rotated-digits/200", "rotated-digits/240"], fit=MASKS, device=device)
    add_tasks(path, ["rotated-digits/100:340:40"], fit=QUICK, device=device)
    add_tasks(path, ["rotated-digits/5", "permuted-digits/5"], fit=QUICK, parts=Parts(residual=512), device=device)
    add_tasks(path, ["rotated-digits/40:73:1"], fit=QUICK, device=device)  # so many are learned together


def test_two_processes_make_the_files_that_one_makes(alone: Path, tmp_path: Path) -> None:
    train(tmp_path / "a.impress", Workers(2))
    assert contents(tmp_path / "a.impress") == contents(alone)


def test_what_is_missing_is_trained_by_several_processes_too(alone: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(alone, tmp_path / "a.impress"))
    bank = open_bank(path)
    for file in (
        bank.mask_path(1),
        bank.mask_path(4),
        bank.task_path("rotated-digits-50"),
        bank.task_path("rotated-digits-100"),
    ):
        file.unlink()
    remarks: list[str] = []
    progress = Progress(remark=remarks.append)
    extend_bank(path, ["rotated-digits/200", "rotated-digits/240"], fit=MASKS, device=Workers(2), progress=progress)
    add_tasks(path, ["rotated-digits/100:340:40"], fit=QUICK, device=Workers(2))
    added = add_tasks(path, ["rotated-digits/40:73:1"], fit=QUICK, device=Workers(2))
    assert contents(path) == contents(alone)
    assert remarks == ["3 of 5 masks are there, training the rest"]
    assert len(added) == 33


def test_a_run_of_several_processes_that_diverges_says_which_item_and_keeps_the_others(
    alone: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(alone, tmp_path / "a.impress"))
    before = contents(path)
    with pytest.raises(TrainingDiverged, match=r"task rotated-digits-(11|13): "):
        add_tasks(
            path, ["rotated-digits/11", "rotated-digits/13"], fit=TaskTraining(epochs=2, lr=1e30), device=Workers(2)
        )
    assert contents(path) == before


def test_fewer_than_one_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`workers` 0: expected at least 1"):
        create_bank(tmp_path / "a.impress", ["rotated-digits/0"], device=Workers(0))
    assert not (tmp_path / "a.impress").exists()


def test_each_process_computes_as_the_first_one_does() -> None:
    threads = torch.get_num_threads()
    try:
        assert TorchSettings.of(torch.device("cpu"), 2) == TorchSettings("cpu", deterministic=False, threads=2)
        assert TorchSettings("cpu", threads=2).apply() == torch.device("cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_training_has_the_threads_that_it_is_given_and_its_file_says_so(tmp_path: Path) -> None:
    before, seen = torch.get_num_threads(), set[int]()
    watching = Progress(step=lambda: seen.add(torch.get_num_threads()))
    path = tmp_path / "a.impress"
    create_bank(path, ["rotated-digits/0"], fit=MaskTraining(epochs=1, threads=2), progress=watching)
    assert (seen, torch.get_num_threads()) == ({2}, before)
    seen.clear()
    extend_bank(path, ["rotated-digits/40"], fit=MaskTraining(epochs=1, threads=3), progress=watching)
    add_tasks(path, ["rotated-digits/20"], fit=TaskTraining(epochs=1, threads=3), progress=watching)
    assert (seen, torch.get_num_threads()) == ({3}, before)
    update_task(path, "rotated-digits-20", "rotated-digits/30", fit=TaskTraining(epochs=1), progress=watching)
    assert (seen, torch.get_num_threads()) == ({1, 3}, before)
    bank = open_bank(path)
    assert [plan.fit and plan.fit.threads for plan in bank.manifest.masks] == [2, 3]
    assert known(bank.read_task_record("rotated-digits-20").fit).threads == 1


def test_several_threads_give_the_same_files_in_one_process_and_in_two(tmp_path: Path) -> None:
    two = MaskTraining(epochs=1, threads=2)
    for name, device in (("one", None), ("two", Workers(2))):
        create_bank(tmp_path / name, ["rotated-digits/0:80:40"], fit=two, device=device)
        add_tasks(tmp_path / name, ["rotated-digits/10:90:40"], fit=TaskTraining(epochs=1, threads=2), device=device)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_extension_in_other_threads_goes_on_with_the_masks_that_were_planned(tmp_path: Path) -> None:
    path = tmp_path / "a.impress"
    create_bank(path, ["rotated-digits/0"], fit=MaskTraining(epochs=1))
    extend_bank(path, ["rotated-digits/40"], fit=MaskTraining(epochs=1, threads=2))
    made = contents(path)
    open_bank(path).mask_path(1).unlink()
    extend_bank(path, ["rotated-digits/40"], fit=MaskTraining(epochs=1))
    assert contents(path) == made


def test_a_task_that_is_discovered_has_its_threads_too(alone: Path, tmp_path: Path) -> None:
    path, before, seen = Path(shutil.copytree(alone, tmp_path / "a.impress")), torch.get_num_threads(), set[int]()
    from impress_learn.tasks import learn

    learn_task = learn.learn_task

    def watched(*given: Any, **named: Any) -> AddedTask:
        seen.add(torch.get_num_threads())
        return learn_task(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn, "learn_task", watched)
        discover_tasks(path, ["permuted-digits/9"], fit=TaskTraining(epochs=1, threads=3))
    assert (seen, torch.get_num_threads()) == ({3}, before)


def test_fewer_threads_than_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`threads` 0: expected at least 1"):
        create_bank(tmp_path / "a.impress", ["rotated-digits/0"], fit=MaskTraining(threads=0))


def test_tasks_of_few_images_do_not_depend_on_which_is_learned_first(alone: Path, tmp_path: Path) -> None:
    few, asked = TaskTraining(epochs=3, shots=3), ["rotated-digits/6", "rotated-digits/7", "rotated-digits/8"]
    orders = {"forth": asked, "back": asked[::-1], "resumed": asked}
    for name, order in orders.items():
        path = Path(shutil.copytree(alone, tmp_path / name))
        add_tasks(path, order, fit=few, parts=Parts(vote=False))
        if name == "resumed":
            path.joinpath("tasks", "rotated-digits-7.safetensors").unlink()
            add_tasks(path, order, fit=few, parts=Parts(vote=False))
    assert contents(tmp_path / "forth") == contents(tmp_path / "back") == contents(tmp_path / "resumed")
