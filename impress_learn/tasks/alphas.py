"""Coefficients of several tasks, learned in one loop: every mask is read once a step for all of them.

What moves one task's coefficients depends on no other task. Each has images and an order of its own, and the
network goes through with the weights of one task at a time; only what all tasks share, the masks, is laid over the
weights for all at once, and likewise on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impress_format.errors import TrainingDiverged
from impress_learn.masks.basis import Basis, effective_of_tasks, layer_columns, slopes_of_tasks
from impress_learn.network.backbone import Backbone
from impress_learn.network.norm_statistics import Forward, training_forward
from impress_learn.parts.alpha import norm_penalty, shares_of_columns
from impress_learn.streams.images import Images
from impress_learn.training.config import TaskTraining, steps_per_epoch
from impress_learn.training.loop import CHECK_EVERY, why_diverged
from impress_learn.training.optimizer import make_step, rates

_BATCHES_AT_ONCE = 8
"""That images are made for: of one at a time, what is done once a call would count."""


@dataclass(frozen=True, eq=False)
class Learning:
    """One of the tasks that are learned together.

    Attributes:
        name: for people.
        train: its images.
        seed: what the order of the images is drawn from.
    """

    name: str
    train: Images
    seed: int


def fit_alphas(
    backbone: Backbone,
    basis: Basis,
    tasks: Sequence[Learning],
    fit: TaskTraining,
    *,
    steps: int,
    granularity: int,
    on_step: Callable[[], None],
    calibration: Tensor | None = None,
) -> Tensor:
    """Learn alpha (T, K, columns) of T tasks by `fit`, from 1/K, in so many steps each.

    Args:
        backbone: `answering` for the classes that all of them have.
        fit: its seed and epochs do not count; nor does its warm-up.
        on_step: called after every step of every task.
        calibration: the bank's images, whose statistics BatchNorm takes; None for a network without.

    Raises:
        TrainingDiverged: loss or coefficients became NaN or infinite; naming the task.
    """
    device, columns = basis.device, layer_columns(basis, granularity)
    alpha = torch.full((len(tasks), len(basis), sum(columns)), 1.0 / len(basis), device=device).requires_grad_()
    move = make_step(fit, [alpha])
    share = shares_of_columns(columns, device)
    forwards = [training_forward(backbone, calibration, one.seed) for one in tasks]
    batches = [_batches(one, fit.batch_size) for one in tasks]
    losses: list[Tensor] = []
    for step, rate in enumerate(rates(fit.rate, warmup=0, total=steps), start=1):
        with torch.no_grad():
            weights = effective_of_tasks(basis, alpha, granularity)
        slopes = {name: torch.zeros_like(each, memory_format=torch.contiguous_format) for name, each in weights.items()}
        for place, (forward, each) in enumerate(zip(forwards, batches, strict=True)):
            losses.append(_slope(forward, *next(each), weights, slopes, place))
            on_step()
        with torch.no_grad():
            alpha.grad = slopes_of_tasks(basis, slopes, granularity)
        if fit.l1 > 0:
            (fit.l1 * norm_penalty(alpha, share)).backward()
        move(rate)
        if step % CHECK_EVERY == 0 or step == steps:
            _check(torch.stack(losses).view(-1, len(tasks)), alpha.detach(), tasks, step, fit.rate)
            losses.clear()
    return alpha.detach().cpu()


def _slope(
    forward: Forward, images: Tensor, labels: Tensor, weights: dict[str, Tensor], slopes: dict[str, Tensor], place: int
) -> Tensor:
    """The loss of one task, whose gradient by its weights becomes its row of `slopes`."""
    leaves = {name: each[place].requires_grad_() for name, each in weights.items()}
    for name, leaf in leaves.items():
        leaf.grad = slopes[name][place]  # what backward adds to, in place
    loss = cross_entropy(forward(leaves, images), labels)
    loss.backward()
    return loss.detach()


def _batches(task: Learning, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, each pass over the images in another order."""
    generator = torch.Generator().manual_seed(task.seed)
    steps = steps_per_epoch(len(task.train), batch_size)
    while True:
        order = torch.randperm(len(task.train), generator=generator).to(task.train.device)
        for indices in order[: steps * batch_size].split(_BATCHES_AT_ONCE * batch_size):
            images, labels = task.train.batch(indices, generator)
            yield from zip(images.split(batch_size), labels.split(batch_size), strict=True)


def _check(losses: Tensor, alpha: Tensor, tasks: Sequence[Learning], step: int, lr: float) -> None:
    finite = losses.isfinite().all(0) & alpha.isfinite().flatten(1).all(1)
    for task, fine in zip(tasks, finite.tolist(), strict=True):
        if not fine:
            why = why_diverged(f"by step {step}", lr, "this task and those that are learned with it")
            raise TrainingDiverged(f"task {task.name}: {why}")
