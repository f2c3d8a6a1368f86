"""Steps of SGD, Adam and RMSprop, by torch's own functions, at a learning rate that falls as a cosine after a warm-up.

Not by torch.optim's classes: the first of these that is made imports torch._dynamo, more than a second. The numbers are
the same, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from impress_learn.training.config import MaskTraining, TaskTraining

_MOMENTUM = 0.9
_BETAS, _ALPHA, _EPS = (0.9, 0.999), 0.99, 1e-8


def make_step(fit: MaskTraining | TaskTraining, parameters: Sequence[Tensor]) -> Callable[[float], None]:
    """What moves the parameters by their gradients, and forgets these: one step of `fit`'s optimiser at a rate."""
    moved, decay = list(parameters), fit.weight_decay
    if fit.optimizer in (None, "sgd"):
        buffers: list[Tensor | None] = [None for _ in moved]

        def update(lr: float, gradients: list[Tensor]) -> None:
            sgd(
                moved, gradients, buffers, weight_decay=decay, momentum=_MOMENTUM, lr=lr, dampening=0.0, nesterov=False,
                maximize=False,
            )  # fmt: skip

    else:
        first, second = ([torch.zeros_like(one) for one in moved] for _ in range(2))
        steps = [torch.tensor(0.0) for _ in moved]

        def update(lr: float, gradients: list[Tensor]) -> None:
            if fit.optimizer == "adam":
                adam(
                    moved, gradients, first, second, [], steps, amsgrad=False, beta1=_BETAS[0], beta2=_BETAS[1], lr=lr,
                    weight_decay=decay, eps=_EPS, maximize=False,
                )  # fmt: skip
            else:
                rmsprop(
                    moved, gradients, second, [], [], steps, lr=lr, alpha=_ALPHA, eps=_EPS, weight_decay=decay,
                    momentum=0.0, centered=False,
                )  # fmt: skip

    def step(lr: float) -> None:
        gradients = [one.grad for one in moved]
        assert all(gradient is not None for gradient in gradients)
        with torch.no_grad():
            update(lr, [gradient for gradient in gradients if gradient is not None])
        for one in moved:
            one.grad = None

    return step


def rates(lr: float, *, warmup: int, total: int) -> Iterator[float]:
    """The learning rate of each of `total` steps: it rises in a line for `warmup` of them, then falls as a cosine.

    Each rate comes from the one before as in torch's schedulers, which round so.
    """
    start = 1 / (warmup + 1)
    rate = lr * start
    for step in range(warmup):
        yield rate
        rate *= 1.0 + (1.0 - start) / (warmup * start + step * (1.0 - start))
    rate, left = lr, total - warmup
    for step in range(left):
        yield rate
        rate = (1 + math.cos(math.pi * (step + 1) / left)) / (1 + math.cos(math.pi * step / left)) * rate
