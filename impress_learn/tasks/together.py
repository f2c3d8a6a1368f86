"""Learning the tasks of a wave together and storing them: each begins where the one before it in its chain ended.

What is not related to the one before it begins from 1/K, as a task does that is learned alone.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from impress_format.parts.alpha import ALPHA, coefficients_of
from impress_learn.masks.basis import effective_weights, layer_columns
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.parts.alpha import store_coefficients
from impress_learn.plan.groups import Link
from impress_learn.plan.tasks import TaskRequest, settings_of, task_steps
from impress_learn.progress import Progress
from impress_learn.running.accuracy import accuracy
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.images import Images, evenly_spread
from impress_learn.streams.load import TaskData, training_images
from impress_learn.tasks.added import AddedTask
from impress_learn.tasks.alphas import Learning, fit_alphas
from impress_learn.tasks.learn import remark_uneven
from impress_learn.tasks.storing import Learned, naming, restore, store_task, task_seed
from impress_learn.training.config import task_training

_SAMPLE = 5_000
"""Training images that accuracy in training is measured on, and by which a start is judged."""
_SHARES = ((0.02, 0.2), (0.04, 0.4))
"""How far accuracy may fall from one task to the next at the most, of what the first has above guessing, and which
share of the steps of a task that is learned alone are then enough: chosen on held-out images (docs/results.md, Many
tasks). What is further away is learned from 1/K: from a start so far off it would end lower."""


@dataclass(frozen=True, eq=False)
class _Begun:
    """A task of the wave, ready to be learned: its data, where it begins, and in how many steps it is learned."""

    request: TaskRequest
    data: TaskData
    train: Images
    sample: Images
    start: Tensor
    steps: int


def add_together(
    loaded: RunningBank,
    wave: Sequence[Link],
    wanted: Collection[str],
    *,
    data_dir: Path | None,
    progress: Progress,
) -> dict[str, AddedTask]:
    """Learn alpha for all tasks of a wave and store those that are wanted; what was added, by name.

    All of them are learned also where some are stored already, by a run that was interrupted: so the others come out as
    they would have.

    Raises:
        TrainingDiverged: no task of this wave is stored.
        DataError, StorageError, TaskExists.
    """
    started = time.perf_counter()
    signature_maker = loaded.signature_maker if wave[0].request.parts.signature else None
    begun = [_begin(loaded, link, data_dir, progress) for link in wave]
    alphas: dict[str, Tensor] = {}
    for steps in sorted({one.steps for one in begun}):
        some = [one for one in begun if one.steps == steps]
        found = _fit(loaded, some, steps, progress)
        alphas |= {one.request.name: alpha for one, alpha in zip(some, found, strict=True)}
    learned = {one.request.name: _measured(loaded, one, alphas[one.request.name], progress) for one in begun}
    started += (time.perf_counter() - started) * (len(begun) - 1) / len(begun)  # so that each has its share of it
    return {
        one.request.name: store_task(
            loaded, one.request, learned[one.request.name], one.train, signature_maker, started=started
        )
        for one in begun
        if one.request.name in wanted
    }


def _begin(loaded: RunningBank, link: Link, data_dir: Path | None, progress: Progress) -> _Begun:
    request, fit = link.request, link.request.fit
    data = loaded.stored_data(
        request.reference,
        request.name,
        request.classes,
        data_dir=data_dir,
        holdout=fit.holdout,
        remark=progress.remark,
    )
    remark_uneven(
        request, data.source_train, data.source_test if fit.holdout == 0 else data.source_validation, progress
    )
    train = training_images(data, fit.shots, fit.seed, request.classes.label, keep=False)
    sample = train.subset(evenly_spread(len(train), _SAMPLE).to(train.device))
    steps, start = task_steps(request), torch.full(_shape(loaded, request), 1.0 / len(loaded.basis))
    if link.before is not None:
        before = loaded.bank.read_stored(link.before.name)
        alpha = torch.zeros_like(start)
        present = coefficients_of(before)
        assert present is not None
        alpha[: len(present)] = torch.from_numpy(present)  # 0 for masks that came later
        own = before.record.train_accuracy
        assert own is not None
        here = _accuracy(loaded, request, alpha, sample)
        if (share := _share_of_steps(own, here, 1 / request.classes.count)) is not None:
            steps, start = max(1, round(share * steps)), alpha
            request = replace(request, fit=msgspec.structs.replace(fit, steps=steps))
    return _Begun(request, data, train, sample, start, steps)


def _share_of_steps(own: float, here: float, guess: float) -> float | None:
    """Which share of the steps a task needs from the start of another; None to begin from 1/K.

    Args:
        own, here: accuracy of the start on images of the other task, and on those of this one.
        guess: that of guessing.
    """
    return next((share for most, share in _SHARES if own - here < most * (own - guess)), None)


def _fit(loaded: RunningBank, begun: Sequence[_Begun], steps: int, progress: Progress) -> Tensor:
    first = begun[0].request
    learning = [
        Learning(one.request.name, one.train, one.start, task_seed(one.request.fit, one.request.reference))
        for one in begun
    ]
    alphas = fit_alphas(
        loaded.backbone.answering(first.classes.count),
        loaded.basis,
        learning,
        task_training(first.fit),
        steps=steps,
        granularity=first.parts.granularity,
        on_step=progress.step,
        calibration=loaded.calibration,
    )
    for _ in range(len(begun) * (task_steps(first) - steps)):
        progress.step()  # they were counted as if they were learned alone
    return alphas


def _measured(loaded: RunningBank, one: _Begun, alpha: Tensor, progress: Progress) -> Learned:
    """The task as it is stored, and its accuracies."""
    request, kind = one.request, one.request.parts.alpha_dtype
    assert kind is not None
    with naming(request):
        tensors = {ALPHA.name: store_coefficients(alpha, kind)}
        values = restore(loaded.bank, request, tensors)
    effective = loaded.lay(values, settings_of(loaded.bank, request))
    backbone = loaded.backbone.answering(request.classes.count)
    measured = one.data.measured(holdout=request.fit.holdout)
    remark_uneven(request, one.train, measured, progress)
    return Learned(tensors, accuracy(backbone, effective, measured), accuracy(backbone, effective, one.sample))


def _accuracy(loaded: RunningBank, request: TaskRequest, alpha: Tensor, images: Images) -> float:
    weights = effective_weights(loaded.basis, alpha.to(loaded.basis.device), request.parts.granularity)
    backbone = loaded.backbone.answering(request.classes.count)
    return accuracy(backbone, with_statistics(loaded.backbone, weights, loaded.calibration), images)


def _shape(loaded: RunningBank, request: TaskRequest) -> tuple[int, int]:
    return len(loaded.basis), sum(layer_columns(loaded.basis, request.parts.granularity))
