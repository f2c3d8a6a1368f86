"""One training loop for everything that is trained: scores of a mask, coefficients of a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impress_format.errors import TrainingDiverged
from impress_learn.training.config import MaskTraining, TaskTraining, steps_per_epoch

_CHECK_EVERY = 25
"""Steps between looks at the loss: each look makes a GPU wait."""


class Batches(Protocol):
    """What is learned from, batch by batch: images, or what a network made of them."""

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor | slice, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Inputs (B, ...) and labels (B,)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled rows to learn from.

    Attributes:
        values: (N, D), for one projected features.
        labels: (N,).
    """

    values: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def batch(self, indices: Tensor | slice, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        return self.values[indices], self.labels[indices]


def minimise(
    logits_of: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    train: Batches,
    fit: MaskTraining | TaskTraining,
    *,
    on_step: Callable[[], None],
    penalty: Callable[[], Tensor] | None = None,
) -> None:
    """Minimise cross-entropy (plus penalty) as `fit` says, learning rate falling to 0 as a cosine, after a warm-up.

    Args:
        logits_of: inputs of a batch (batch, ...) -> logits (batch, classes), differentiable in `parameters`.
        fit: with its epochs settled; its seed gives the order of the images, and how they are augmented.
        on_step: called after every step.

    Raises:
        TrainingDiverged: with the step and what to do.
    """
    assert fit.epochs is not None
    optimizer = fit.make_optimizer(parameters)
    generator = torch.Generator().manual_seed(fit.seed)
    steps = steps_per_epoch(len(train), fit.batch_size)
    total = fit.epochs * steps
    schedule = _schedule(optimizer, warmup=fit.warmup * steps, total=total)
    losses: list[Tensor] = []
    for _ in range(fit.epochs):
        order = torch.randperm(len(train), generator=generator).to(train.device)
        for indices in order.split(fit.batch_size)[:steps]:
            images, labels = train.batch(indices, generator)
            loss = cross_entropy(logits_of(images), labels)
            if penalty is not None:
                loss = loss + penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
            if len(losses) == _CHECK_EVERY:
                _check(losses, parameters, schedule.last_epoch, optimizer)
                losses.clear()
            on_step()
    _check(losses, parameters, total, optimizer)


def _schedule(optimizer: torch.optim.Optimizer, *, warmup: int, total: int) -> torch.optim.lr_scheduler.LRScheduler:
    """In steps: the rate rises in a line for `warmup` of them, and falls to 0 as a cosine in the rest of `total`."""
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - warmup)
    if not warmup:
        return cosine
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, cosine], milestones=[warmup])


def _check(losses: list[Tensor], parameters: Sequence[Tensor], step: int, optimizer: torch.optim.Optimizer) -> None:
    finite = [bool(ok) for ok in torch.isfinite(torch.stack(losses))] if losses else []
    if all(finite) and all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        return
    first = step - len(losses) + finite.index(False) + 1 if False in finite else step
    lr = optimizer.defaults["lr"]
    raise TrainingDiverged(
        f"training diverged at step {first}: the loss or the trained values are NaN or infinite (lr {lr:g}).\n"
        f"Lower the learning rate, for example `lr` {lr / 10:g}. Nothing of this run was stored for this item."
    )
