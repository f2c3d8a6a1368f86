"""basis-GN: an alpha fitted, with labels, to the task of a mask in the basis (ImpressLearn, Sec. 4).

It is supervised, and so no replacement for inferring a task from images alone, beside which it is shown; it tells
whether learning alpha finds the mask that was trained for a task. So it starts from 1/K, not from the right answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from impress_format.weights import substream_seed
from impress_learn.identify.candidates import Candidates
from impress_learn.identify.measure import MOST_GROUPS, Inferred, infer_tasks
from impress_learn.masks.basis import effective_weights
from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.plan.tasks import settle_training
from impress_learn.progress import SILENT, Progress
from impress_learn.running.accuracy import Item, MeasuredOn, accuracy, measured_on
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.images import Images
from impress_learn.streams.load import training_images
from impress_learn.streams.reference import parse_reference
from impress_learn.tasks.weights import fit_alpha
from impress_learn.training.config import TaskTraining, task_training


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """An alpha fitted to a mask's own task.

    Attributes:
        accuracy: under this alpha.
        right: whether the mask of this task has the largest coefficient, the mean of its sizes over layers.
    """

    accuracy: float
    right: bool


@dataclass(frozen=True, kw_only=True)
class BasisGN:
    """One mask's task: what its own mask gives, and an alpha from 1/K, without the L1 term and with it.

    `inferred` is what no label gives: accuracy with the task inferred among all of the bank (GN).
    """

    task: str
    name: str
    dedicated: float
    inferred: Inferred
    plain: Fitted
    with_l1: Fitted
    samples: int
    images: MeasuredOn


def fit_basis_tasks(
    candidates: Candidates,
    items: Sequence[Item],
    fit: TaskTraining,
    *,
    l1: float,
    samples: int,
    data_dir: Path | None,
    progress: Progress,
) -> list[BasisGN]:
    """Fit the task of each mask twice: with weight 0 and with weight `l1` of the L1 term.

    Args:
        fit: how; its epochs may be open, its `l1` does not count.
        samples: images that share one task, where the task is inferred.

    Raises:
        UsageError: a task has fewer images than `samples`.
        TrainingDiverged, DataError, OutOfMemory.
    """
    loaded, known = candidates.loaded, [candidate.task for candidate in candidates.tasks]
    infer = partial(infer_tasks, candidates, "auto", samples=samples, groups=MOST_GROUPS, holdout=fit.holdout)
    results = []
    for item in items:
        assert item.mask is not None
        reference = parse_reference(item.task)
        data = loaded.stored_data(
            reference, item.name, item.classes, data_dir=data_dir, holdout=fit.holdout, remark=progress.remark
        )
        backbone = loaded.backbone.answering(item.classes.count)
        train = training_images(data, fit.shots, fit.seed)
        measured = data.measured(holdout=fit.holdout)
        (inferred,) = infer([known.index(item.task)], data_dir=data_dir, progress=SILENT)
        settled = task_training(settle_training(reference, fit))
        settled = replace(settled, seed=substream_seed(fit.seed, f"alpha/{reference}"))
        plain, with_l1 = (
            _learn(loaded, backbone, item.mask, train, measured, replace(settled, l1=weight), progress.step)
            for weight in (0.0, l1)
        )
        results.append(
            BasisGN(
                task=item.task,
                name=item.name,
                dedicated=accuracy(loaded.answering(item.classes.count), loaded.mask_weights(item.mask), measured),
                inferred=inferred,
                plain=plain,
                with_l1=with_l1,
                samples=len(measured),
                images=measured_on(fit.holdout),
            )
        )
    return results


def _learn(
    loaded: RunningBank,
    backbone: Backbone,
    mask: int,
    train: Images,
    measured: Images,
    fit: TaskTraining,
    on_step: Callable[[], None],
) -> Fitted:
    alpha: Tensor = fit_alpha(
        backbone,
        loaded.basis,
        train,
        fit,
        granularity=1,
        on_step=on_step,
        calibration=loaded.calibration,
    )
    effective = effective_weights(loaded.basis, alpha.to(loaded.basis.device))
    return Fitted(
        accuracy=accuracy(
            loaded.answering(backbone.answers), with_statistics(backbone, effective, loaded.calibration), measured
        ),
        right=int(alpha.abs().mean(1).argmax()) == mask,
    )
