"""basis-GN (paper, Sec. 4): a task of the basis, not known to be one, learned as a new task would be.

It takes labels. So it is no way to infer a task, and stands here beside what is: the bank's own inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, TaskNotFound
from impress_format.weights import substream_seed
from impress_learn.alpha import fit_alpha
from impress_learn.candidates import find_candidates
from impress_learn.combine import effective_weights
from impress_learn.evaluate import LoadedBank, accuracy
from impress_learn.evaluate_gn import evaluate_gn
from impress_learn.inference import auto
from impress_learn.schedule import steps_per_epoch, task_epochs, train_images
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_references

L1 = 0.1
"""Weight of the L1 term in the second fit."""
_BATCH = 128
_LR = 0.03


@dataclass(frozen=True, kw_only=True)
class BasisGN:
    """One task of the basis.

    Attributes:
        accuracy, accuracy_l1: of alpha fitted from uniform with labels, without and with the L1 term.
        dedicated: of the task's own mask (the mean over them, if there are several).
        label_free: with the task inferred among those of the masks, without labels.
        own_largest: whether in the first fit the task's own masks have the largest coefficient in every layer.
        samples: images asked.
    """

    task: str
    accuracy: float
    accuracy_l1: float
    dedicated: float
    label_free: float
    own_largest: bool
    samples: int


def basis_tasks(bank: Bank, tasks: Sequence[str]) -> dict[str, list[int]]:
    """The masks of each basis task, of those in `tasks` or of all if it is empty.

    Raises:
        TaskNotFound: no mask was trained for one of them.
        BankMismatch: the bank has random masks only.
    """
    masks: dict[str, list[int]] = {}
    for index, plan in enumerate(bank.manifest.masks):
        if plan.task is not None:
            masks.setdefault(plan.task, []).append(index)
    if missing := [task for task in tasks if task not in masks]:
        raise TaskNotFound(
            f"no mask of {bank.path} was trained for {missing[0]!r}; basis-GN is about {', '.join(masks)}"
        )
    if not masks:
        raise BankMismatch(f"{bank.path} has random masks only: none was trained for a task")
    return {task: indices for task, indices in masks.items() if not tasks or task in tasks}


def fitting_steps(bank: Bank, tasks: Sequence[str]) -> int:
    """Training steps of evaluate_basis_gn, if nothing is held out."""
    counts = [train_images(parse_references([task])[0].stream, 0.0) for task in basis_tasks(bank, tasks)]
    return 2 * sum(task_epochs(count, _BATCH) * steps_per_epoch(count, _BATCH) for count in counts)


def evaluate_basis_gn(
    loaded: LoadedBank,
    tasks: Sequence[str],
    *,
    samples: int,
    groups: int,
    holdout: float,
    seed: int,
    data_dir: Path,
    on_task: Callable[[str], None],
    on_step: Callable[[], None],
) -> Iterator[BasisGN]:
    """Fit alpha on each basis task twice, and infer it once.

    Raises:
        TaskNotFound, BankMismatch, DataError, TrainingDiverged.
    """
    candidates = find_candidates(loaded, [], masks=True)
    for task, masks in basis_tasks(loaded.bank, tasks).items():
        on_task(task)
        data = load_task(parse_references([task])[0], data_dir=data_dir, holdout=holdout).to(loaded.basis.device)
        images = data.measured(holdout=holdout)
        fitted = [
            fit_alpha(
                loaded.backbone,
                loaded.basis,
                data.train,
                epochs=task_epochs(len(data.train), _BATCH),
                batch_size=_BATCH,
                lr=_LR,
                l1=l1,
                granularity=1,
                seed=substream_seed(seed, f"basis-gn/{task}"),
                on_step=on_step,
            ).to(loaded.basis.device)
            for l1 in (0.0, L1)
        ]
        with_labels = [
            accuracy(loaded.backbone, effective_weights(loaded.basis, alpha), images, loaded.calibration)
            for alpha in fitted
        ]
        own = [accuracy(loaded.backbone, loaded.mask_weights(mask), images, loaded.calibration) for mask in masks]
        (inferred,) = evaluate_gn(
            candidates,
            auto,
            [candidates.find(task)],
            samples=samples,
            groups=groups,
            holdout=holdout,
            data_dir=data_dir,
            on_task=lambda: None,
        )
        yield BasisGN(
            task=task,
            accuracy=with_labels[0],
            accuracy_l1=with_labels[1],
            dedicated=sum(own) / len(own),
            label_free=inferred.accuracy,
            own_largest=bool(torch.isin(fitted[0].argmax(0).cpu(), torch.tensor(masks)).all()),
            samples=len(images),
        )
