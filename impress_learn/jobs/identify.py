"""Accuracy with the task inferred, and beside it what labels would give (`gn`, `basis_gn` of an evaluation)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import open_bank
from impress_format.errors import TaskNotFound
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device, choose_device
from impress_learn.streams.held_out import check_basis_held_out, check_held_out, count_training
from impress_learn.streams.reference import parse_reference
from impress_learn.training.config import (
    TaskTraining,
    check_holdout,
    check_number,
    check_training,
    require,
    steps_per_epoch,
)

if TYPE_CHECKING:
    from impress_format.bank import Bank
    from impress_learn.identify.basis_gn import BasisGN
    from impress_learn.identify.found import Candidate
    from impress_learn.identify.measure import Inferred
    from impress_learn.identify.methods import MethodName

PAPER_L1 = 0.005
"""Weight of the L1 term on Split CIFAR-100 and ImageNet (ImpressLearn, App. A)."""


def evaluate_gn(
    path: Path | str,
    tasks: Sequence[str] = (),
    *,
    method: MethodName = "auto",
    samples: int = 128,
    groups: int = 100,
    holdout: float = 0.0,
    device: Device = None,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> list[Inferred]:
    """Accuracy of tasks with the task inferred, among all tasks of the bank: those stored, and those of masks.

    Args:
        tasks: those to ask about, by name or reference; all if none is named.
        samples: images that are known to share one task.
        groups: at most this many such groups of each task.
        holdout: measure on this share of the training images, held out in training, instead of the test images.

    Raises:
        UsageError: an unknown task, numbers out of range, or images that were not held out.
        BankMismatch: fewer than two tasks, or `method` signature and a task that has none.
        DataError, FormatError, BackboneMismatch, OutOfMemory.
    """
    check_holdout(holdout)
    check_number("samples", samples, least=1)
    check_number("groups", groups, least=1)
    bank = open_bank(path)
    bank.complete_masks()

    from impress_learn.identify.candidates import Candidates
    from impress_learn.identify.found import find_candidates
    from impress_learn.identify.measure import infer_tasks
    from impress_learn.running.accuracy import measurable
    from impress_learn.running.loaded import load_running

    found = find_candidates(bank)
    named = [_index_of(bank, found.tasks, task) for task in tasks]  # two may be of one reference
    asked = list(dict.fromkeys(named)) if tasks else list(range(len(found)))
    if not tasks:
        stored = [found.tasks[index].name for index in asked if found.tasks[index].mask is None]
        known = set(measurable(bank, stored, progress) if stored else ())
        asked = [index for index in asked if found.tasks[index].mask is not None or found.tasks[index].name in known]
    for candidate in (found.tasks[index] for index in asked) if holdout else ():
        check_held_out(candidate.name, candidate.task, _held_out(bank, candidate), holdout)
        check_basis_held_out(bank, candidate.task, holdout)
    candidates = Candidates(load_running(bank, choose_device(device)), found)
    progress.begin(len(asked))
    return list(
        infer_tasks(
            candidates,
            method,
            asked,
            samples=samples,
            groups=groups,
            holdout=holdout,
            data_dir=data_dir,
            progress=progress,
        )
    )


def evaluate_basis_gn(
    path: Path | str,
    *,
    tasks: Sequence[str] = (),
    fit: TaskTraining = TaskTraining(),  # noqa: B008  frozen
    l1: float = PAPER_L1,
    samples: int = 128,
    device: Device = None,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> list[BasisGN]:
    """An alpha fitted with labels, from 1/K, to the task of each mask: with and without the L1 term.

    Beside it stands what needs no label: the task inferred from `samples` images at a time, as by `evaluate_gn`.

    Args:
        tasks: those of masks that are asked about, by reference; all if none is named.
        samples: images that are known to share one task.

    Raises:
        UsageError: settings out of range, or images that were not held out.
        BankMismatch: the bank has random masks only, or fewer than two tasks.
        DataError, FormatError, BackboneMismatch, TrainingDiverged, OutOfMemory.
    """
    check_training(replace(fit, l1=l1))
    require(samples >= 1, f"`samples` {samples}: expected at least 1")
    bank = open_bank(path)
    bank.complete_masks()

    from impress_learn.identify.basis_gn import fit_basis_tasks
    from impress_learn.identify.candidates import Candidates
    from impress_learn.identify.found import find_candidates
    from impress_learn.running.accuracy import mask_items
    from impress_learn.running.loaded import load_running

    items = [item for item in mask_items(bank) if not tasks or item.task in tasks]
    require(bool(items), f"no mask was trained for {', '.join(tasks)}")
    for item in items:
        check_held_out(item.name, item.task, item.holdout, fit.holdout)
        check_basis_held_out(bank, item.task, fit.holdout)
    found = find_candidates(bank)
    candidates = Candidates(load_running(bank, choose_device(device)), found)
    progress.begin(2 * sum(_steps(item.task, fit) for item in items))
    return fit_basis_tasks(candidates, items, fit, l1=l1, samples=samples, data_dir=data_dir, progress=progress)


def _steps(task: str, fit: TaskTraining) -> int:
    images = count_training(parse_reference(task).data_set, fit.holdout, fit.shots)
    return fit.record(images).epochs * steps_per_epoch(images, fit.batch_size)


def _index_of(bank: Bank, found: Sequence[Candidate], task: str) -> int:
    """The candidate of this name or reference."""
    references = [candidate.task for candidate in found]
    if task in references:
        return references.index(task)
    try:
        return references.index(bank.read_task_record(bank.find_task(task)).task)
    except TaskNotFound as error:
        if task in (names := [candidate.name for candidate in found]):
            return names.index(task)
        raise error


def _held_out(bank: Bank, candidate: Candidate) -> float:
    """The share of training images that a candidate was not trained on."""
    if candidate.mask is None:
        return bank.read_task_record(candidate.name).holdout
    fit = bank.manifest.masks[candidate.mask].fit
    return fit.holdout if fit else 0.0
