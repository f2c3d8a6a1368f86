"""basis-GN: an alpha fitted, with labels, to the task of a mask in the basis (ImpressLearn, Sec. 4).

It is supervised, and so no replacement for inferring a task from images alone; it shows whether learning alpha finds
the mask that was trained for a task. So it starts from 1/K, not from the right answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from impress_format.weights import substream_seed
from impress_learn.alpha import fit_alpha
from impress_learn.basis import effective_weights
from impress_learn.evaluate import Item, MeasuredOn, accuracy, measured_on
from impress_learn.fits import TaskFit, task_fit
from impress_learn.loaded import LoadedBank
from impress_learn.plan import settle_fit
from impress_learn.streams.images import Images
from impress_learn.streams.load import load_task, training_images
from impress_learn.streams.reference import parse_reference


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
    """One mask's task: what its own mask gives, and an alpha from 1/K, without the L1 term and with it."""

    task: str
    name: str
    dedicated: float
    plain: Fitted
    with_l1: Fitted
    samples: int
    images: MeasuredOn


def fit_basis_tasks(
    loaded: LoadedBank,
    items: Sequence[Item],
    fit: TaskFit,
    *,
    l1: float,
    data_dir: Path | None,
    on_step: Callable[[], None],
) -> list[BasisGN]:
    """Fit the task of each mask twice: with weight 0 and with weight `l1` of the L1 term.

    Args:
        fit: how; its epochs may be open, its `l1` does not count.

    Raises:
        TrainingDiverged, DataError, OutOfMemory.
    """
    results = []
    for item in items:
        assert item.mask is not None
        reference = parse_reference(item.task)
        data = load_task(reference, data_dir=data_dir, holdout=fit.holdout, device=loaded.basis.device)
        train = training_images(data, fit.shots, fit.seed)
        measured = data.measured(holdout=fit.holdout)
        settled = task_fit(settle_fit(reference, fit))
        settled = replace(settled, seed=substream_seed(fit.seed, f"alpha/{reference}"))
        plain, with_l1 = (
            _fit(loaded, item.mask, train, measured, replace(settled, l1=weight), on_step) for weight in (0.0, l1)
        )
        results.append(
            BasisGN(
                task=item.task,
                name=item.name,
                dedicated=accuracy(loaded.backbone, loaded.mask_weights(item.mask), measured, None),
                plain=plain,
                with_l1=with_l1,
                samples=len(measured),
                images=measured_on(fit.holdout),
            )
        )
    return results


def _fit(
    loaded: LoadedBank, mask: int, train: Images, measured: Images, fit: TaskFit, on_step: Callable[[], None]
) -> Fitted:
    alpha: Tensor = fit_alpha(loaded.backbone, loaded.basis, train, fit, granularity=1, on_step=on_step)
    effective = effective_weights(loaded.basis, alpha.to(loaded.basis.device))
    return Fitted(
        accuracy=accuracy(loaded.backbone, effective, measured, loaded.calibration),
        right=int(alpha.abs().mean(1).argmax()) == mask,
    )
