"""One training loop for everything that is trained: scores of a mask, coefficients of a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impress_format.errors import TrainingDiverged
from impress_learn.fits import MaskFit, TaskFit, steps_per_epoch
from impress_learn.streams.images import Images

_CHECK_EVERY = 25
"""Steps between looks at the loss: each look makes a GPU wait."""


def minimise(
    logits_of: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    train: Images,
    fit: MaskFit | TaskFit,
    *,
    on_step: Callable[[], None],
    penalty: Callable[[], Tensor] | None = None,
) -> None:
    """Minimise cross-entropy (plus penalty) as `fit` says, learning rate falling to 0 as a cosine.

    Args:
        logits_of: normalised images (batch, *shape) -> logits (batch, classes), differentiable in `parameters`.
        fit: with its epochs settled; its seed gives the order of the images, and how they are augmented.
        on_step: called after every step.

    Raises:
        TrainingDiverged: with the step and what to do.
    """
    assert fit.epochs is not None
    optimizer = fit.optimizer(parameters)
    generator = torch.Generator().manual_seed(fit.seed)
    steps = steps_per_epoch(len(train), fit.batch_size)
    total = fit.epochs * steps
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total)
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
