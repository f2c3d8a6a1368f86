"""Learning the tasks of a group together and storing them, in as many steps as its pilots show to be enough."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from torch import Tensor

from impress_format.errors import listed
from impress_format.parts.alpha import ALPHA
from impress_learn.masks.basis import effective_weights
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.parts.alpha import store_coefficients
from impress_learn.plan.groups import Group
from impress_learn.plan.tasks import TaskRequest, settings_of, task_steps
from impress_learn.progress import SILENT, Progress
from impress_learn.running.accuracy import accuracy
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.images import Images, evenly_spread
from impress_learn.streams.load import TaskData, training_images
from impress_learn.tasks.added import AddedTask
from impress_learn.tasks.alphas import Learning, fit_alphas
from impress_learn.tasks.learn import data_of, remark_uneven
from impress_learn.tasks.storing import Learned, naming, restore, store_task, task_seed
from impress_learn.training.config import task_training

_SAMPLE = 5_000
"""Training images that accuracy in training is measured on."""
_SHARE, _FASTER = 0.2, 2.0
"""Share of the steps of a task learned alone that may be enough, and how much faster coefficients then move. Chosen
on held-out images (docs/trials.md, Many tasks)."""
_ENOUGH = 0.002
"""By how much the mean accuracy of the pilots may be less than in all steps."""


@dataclass(frozen=True, eq=False)
class _Ready:
    """A task, ready to be learned."""

    request: TaskRequest
    data: TaskData
    train: Images
    sample: Images


def add_group(
    loaded: RunningBank,
    group: Group,
    wanted: Collection[str],
    *,
    data_dir: Path | None,
    progress: Progress,
) -> dict[str, AddedTask]:
    """Learn alpha for the tasks of a group and store those that are wanted; what was added, by name.

    Each task begins from 1/K. The pilots are learned in all steps, and in a fifth of them; the others in a fifth where
    that was enough. Tasks that are stored already are learned again with those that they are learned with, so that
    these come out as if no run had been interrupted.

    Raises:
        TrainingDiverged: naming the task; no task that is learned with it is stored.
        DataError, StorageError, TaskExists.
    """
    signature_maker = loaded.signature_maker if group.pilots[0].parts.signature else None
    added: dict[str, AddedTask] = {}

    def store(ready: Sequence[_Ready], alphas: Tensor, started: float) -> None:
        learned = [_measured(loaded, one, alpha, progress) for one, alpha in zip(ready, alphas, strict=True)]
        started += (time.perf_counter() - started) * (len(ready) - 1) / len(ready)  # each has its share of it
        for one, what in zip(ready, learned, strict=True):
            if one.request.name in wanted:
                request = one.request
                added[request.name] = store_task(loaded, request, what, one.train, signature_maker, started=started)

    progress.describe(f"pilots: {listed([one.name for one in group.pilots], 2)}")
    started, pilots = time.perf_counter(), [_ready(loaded, one, data_dir, progress) for one in group.pilots]
    steps = task_steps(group.pilots[0])
    alphas, few = _fit(loaded, pilots, steps, progress), max(1, round(_SHARE * steps))
    short = _fit(loaded, pilots, few, SILENT)
    enough = _mean_accuracy(loaded, pilots, short) >= _mean_accuracy(loaded, pilots, alphas) - _ENOUGH
    store(pilots, alphas, started)
    for wave in group.waves():
        if not {one.name for one in wave}.isdisjoint(wanted):
            progress.describe(f"{len(added):,} learned; together: {listed([one.name for one in wave], 2)}")
            started, ready = time.perf_counter(), [_ready(loaded, one, data_dir, progress) for one in wave]
            if enough:
                ready = [replace(one, request=_in_steps(one.request, few)) for one in ready]
            store(ready, _fit(loaded, ready, few if enough else steps, progress), started)
    return added


def _in_steps(request: TaskRequest, steps: int) -> TaskRequest:
    return replace(request, fit=msgspec.structs.replace(request.fit, steps=steps))


def _ready(loaded: RunningBank, request: TaskRequest, data_dir: Path | None, progress: Progress) -> _Ready:
    data, fit = data_of(loaded, request, data_dir, progress), request.fit
    train = training_images(data, fit.shots, fit.seed, request.classes.label, keep=False)
    return _Ready(request, data, train, train.subset(evenly_spread(len(train), _SAMPLE).to(train.device)))


def _fit(loaded: RunningBank, ready: Sequence[_Ready], steps: int, progress: Progress) -> Tensor:
    """Alpha (T, K, columns), from 1/K in so many steps: fewer than alone are larger ones."""
    first = ready[0].request
    fit = task_training(first.fit)
    alone = task_steps(first)
    alphas = fit_alphas(
        loaded.backbone.answering(first.classes.count),
        loaded.basis,
        [Learning(one.request.name, one.train, task_seed(one.request.fit, one.request.reference)) for one in ready],
        fit if steps == alone else replace(fit, lr=_FASTER * fit.lr),
        steps=steps,
        granularity=first.parts.granularity,
        on_step=progress.step,
        calibration=loaded.calibration,
    )
    for _ in range(len(ready) * (alone - steps)):
        progress.step()  # they were counted as if they were learned alone
    return alphas


def _mean_accuracy(loaded: RunningBank, ready: Sequence[_Ready], alphas: Tensor) -> float:
    """On the samples of these tasks' training images."""
    return sum(_accuracy(loaded, one, alpha) for one, alpha in zip(ready, alphas, strict=True)) / len(ready)


def _measured(loaded: RunningBank, one: _Ready, alpha: Tensor, progress: Progress) -> Learned:
    """The task as it is stored, and its accuracies."""
    request, kind = one.request, one.request.parts.alpha_dtype
    assert kind is not None
    with naming(request):
        tensors = {ALPHA.name: store_coefficients(alpha, kind)}
        values = restore(loaded.bank, request, tensors)
    effective = loaded.lay(values, settings_of(loaded.bank, request))
    backbone = loaded.answering(request.classes.count)
    measured = one.data.measured(holdout=request.fit.holdout)
    remark_uneven(request, one.train, measured, progress)
    return Learned(tensors, accuracy(backbone, effective, measured), accuracy(backbone, effective, one.sample))


def _accuracy(loaded: RunningBank, one: _Ready, alpha: Tensor) -> float:
    weights = effective_weights(loaded.basis, alpha.to(loaded.basis.device), one.request.parts.granularity)
    backbone = loaded.answering(one.request.classes.count)
    return accuracy(backbone, with_statistics(loaded.backbone, weights, loaded.calibration), one.sample)
