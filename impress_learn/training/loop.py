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
from impress_learn.training.optimizer import make_step, rates

CHECK_EVERY = 25
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
    move = make_step(fit, parameters)
    generator = torch.Generator().manual_seed(fit.seed)
    steps = steps_per_epoch(len(train), fit.batch_size)
    total = fit.epochs * steps
    rate_of_step, done = rates(fit.rate, warmup=fit.warmup * steps, total=total), 0
    losses: list[Tensor] = []
    for _ in range(fit.epochs):
        order = torch.randperm(len(train), generator=generator).to(train.device)
        for indices in order.split(fit.batch_size)[:steps]:
            images, labels = train.batch(indices, generator)
            loss = cross_entropy(logits_of(images), labels)
            if penalty is not None:
                loss = loss + penalty()
            loss.backward()
            move(next(rate_of_step))
            done += 1
            losses.append(loss.detach())
            if len(losses) == CHECK_EVERY:
                _check(losses, parameters, done, fit.rate)
                losses.clear()
            on_step()
    _check(losses, parameters, total, fit.rate)


def _check(losses: list[Tensor], parameters: Sequence[Tensor], step: int, lr: float) -> None:
    finite = [bool(ok) for ok in torch.isfinite(torch.stack(losses))] if losses else []
    if all(finite) and all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        return
    first = step - len(losses) + finite.index(False) + 1 if False in finite else step
    raise TrainingDiverged(why_diverged(f"at step {first}", lr, "this item"))


def why_diverged(when: str, lr: float, lost: str) -> str:
    """What is said of a training that diverged, and of what nothing was stored."""
    return (
        f"training diverged {when}: the loss or the trained values are NaN or infinite (lr {lr:g}).\n"
        f"Lower the learning rate, for example `lr` {lr / 10:g}. Nothing of this run was stored for {lost}."
    )
