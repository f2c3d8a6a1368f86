"""Label-free inference by the entropy of the outputs: superposition (SupSup, 2020), and every task tried out.

A mixture p of tasks has the coefficients sum_t p_t alpha^t, since effective weights are linear in alpha. So the
gradient of the outputs' mean entropy H by p is one product, <alpha^t, dH/dalpha>: one forward and one backward pass
whatever the number of tasks is, and no weights of a task are ever built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.func import vmap

from impress_learn.identify.candidates import Mixable
from impress_learn.masks.basis import effective_weights
from impress_learn.network.backbone import Effective
from impress_learn.network.functional import functional_call
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.network.parameters import is_recurrent
from impress_learn.running.loaded import RunningBank

_STEPS = 10
"""Steps of the method `gradient`."""
_MOST_WEIGHTS = 1 << 24
"""Effective weights in memory at once in `task_logits`: 64 MiB."""
_BATCH = 512

MethodName = Literal["one-shot", "binary", "gradient", "exhaustive"]
Method = Callable[[RunningBank, Mixable, Tensor], Tensor]
"""Bank, T tasks, normalised images (g, n, *input_shape), those of a group of one task -> scores (g, T), the largest for
the likeliest task."""


def one_shot(loaded: RunningBank, tasks: Mixable, groups: Tensor) -> Tensor:
    """The task whose share, raised from the uniform mixture, lowers the entropy fastest (SupSup, Eq. 4)."""
    uniform = torch.full((len(tasks),), 1.0 / len(tasks), device=groups.device)
    return torch.stack([-entropy_slopes(loaded, tasks, images, uniform) for images in groups])


def binary(loaded: RunningBank, tasks: Mixable, groups: Tensor) -> Tensor:
    """As one_shot, but only the better half is kept each time, until one is left: log2(T) passes (SupSup)."""
    return torch.stack([_halve(loaded, tasks, images) for images in groups])


def gradient(loaded: RunningBank, tasks: Mixable, groups: Tensor) -> Tensor:
    """Ten steps of exponentiated gradient descent on the mixture, which keep it a mixture; scores are its shares.

    The slopes are taken in units of their own deviation, since their size varies by orders between networks.
    """
    return torch.stack([_descend(loaded, tasks, images) for images in groups])


def exhaustive(loaded: RunningBank, tasks: Mixable, groups: Tensor) -> Tensor:
    """The task under whose own weights the outputs' mean entropy is least: T forward passes, many in one."""
    each = [
        _entropy(task_logits(loaded, tasks, images), tasks.classes[:, None])
        for images in groups.flatten(0, 1).split(_BATCH)
    ]
    means = torch.cat(each, dim=1).reshape(len(tasks), *groups.shape[:2]).mean(2)
    return -_comparable(means, tasks.classes).T


def one_by_one(loaded: RunningBank, weights: Iterable[Effective], classes: Sequence[int], groups: Tensor) -> Tensor:
    """As exhaustive, for tasks that are more than coefficients: under one task's weights after the other.

    Args:
        classes: how many each task tells apart.
    """
    images = groups.flatten(0, 1).split(_BATCH)
    each = [
        torch.cat([_entropy(loaded.logits(own, part, count)) for part in images])
        for own, count in zip(weights, classes, strict=True)
    ]
    means = torch.stack(each).reshape(-1, *groups.shape[:2]).mean(2)
    return -_comparable(means, torch.tensor(classes, device=groups.device)).T


METHODS: dict[MethodName, Method] = {
    "one-shot": one_shot,
    "binary": binary,
    "gradient": gradient,
    "exhaustive": exhaustive,
}


def entropy_slopes(loaded: RunningBank, tasks: Mixable, images: Tensor, mixture: Tensor) -> Tensor:
    """dH/dp (T,) at the mixture p (T,) of tasks, H the mean entropy of the outputs for images (n, *input_shape).

    Norm statistics are those of the mixture, and no gradient goes through them.
    """
    alpha = torch.tensordot(mixture, tasks.alpha, dims=1).requires_grad_()
    weights = effective_weights(loaded.basis, alpha, tasks.granularity)
    fixed = {name: weight.detach() for name, weight in weights.items()}
    entropy = _entropy(
        loaded.backbone({**with_statistics(loaded.backbone, fixed, loaded.calibration), **weights}, images),
        tasks.classes.max(),
    )
    slope: Tensor = torch.autograd.grad(entropy.mean(), alpha)[0]
    slopes: Tensor = tasks.alpha.flatten(1) @ slope.flatten()
    return slopes


def task_logits(loaded: RunningBank, tasks: Mixable, images: Tensor) -> Tensor:
    """Logits (T, n, classes) of images (n, *input_shape) under each task's own weights."""
    module = loaded.backbone.module
    # Norm statistics are filled in place, one task at a time.
    if loaded.calibration is not None or is_recurrent(module):
        return torch.stack([_own_logits(loaded, alpha, tasks.granularity, images) for alpha in tasks.alpha])

    def forward(weights: Mapping[str, Tensor]) -> Tensor:
        output: Tensor = functional_call(module, dict(weights), (images,))
        return output

    run: Callable[[Mapping[str, Tensor]], Tensor] = vmap(forward)

    def logits(alphas: Tensor) -> Tensor:
        # Outside of vmap, which masks that are looked up or packed know nothing of.
        laid = [effective_weights(loaded.basis, alpha, tasks.granularity) for alpha in alphas]
        return run({name: torch.stack([weights[name] for weights in laid]) for name in laid[0]})

    at_once = max(1, _MOST_WEIGHTS // loaded.bank.backbone.weights)
    with torch.no_grad():
        return torch.cat([logits(piece) for piece in tasks.alpha.split(at_once)])


def _own_logits(loaded: RunningBank, alpha: Tensor, granularity: int, images: Tensor) -> Tensor:
    effective = effective_weights(loaded.basis, alpha, granularity)
    return loaded.logits(with_statistics(loaded.backbone, effective, loaded.calibration), images)


def _halve(loaded: RunningBank, tasks: Mixable, images: Tensor) -> Tensor:
    """Scores (T,): the number of rounds that each task stays."""
    scores = torch.zeros(len(tasks), device=images.device)
    left = torch.arange(len(tasks), device=images.device)
    while len(left) > 1:
        mixture = torch.full((len(left),), 1.0 / len(left), device=images.device)
        order = entropy_slopes(loaded, tasks.some(left), images, mixture).argsort(stable=True)
        left = left[order[: (len(left) + 1) // 2 if len(left) > 2 else 1]]
        scores[left] += 1.0
    return scores


def _descend(loaded: RunningBank, tasks: Mixable, images: Tensor) -> Tensor:
    mixture = torch.full((len(tasks),), 1.0 / len(tasks), device=images.device)
    for _ in range(_STEPS):
        slopes = entropy_slopes(loaded, tasks, images, mixture)
        scaled = (slopes - slopes.mean()) / slopes.std(correction=0).clamp(min=1e-12)
        mixture = torch.softmax(mixture.clamp(min=1e-30).log() - scaled, dim=0)
    return mixture


def _entropy(logits: Tensor, classes: Tensor | None = None) -> Tensor:
    """Entropy in nats over the last axis, of which with `classes` the first so many count.

    Args:
        classes: int, of a shape that goes with all axes but the last.
    """
    if classes is not None and bool((classes < logits.shape[-1]).any()):
        beyond = torch.arange(logits.shape[-1], device=logits.device) >= classes[..., None]
        logits = logits.masked_fill(beyond, torch.finfo(logits.dtype).min)
    log_probability = torch.log_softmax(logits, dim=-1)
    return -(log_probability.exp() * log_probability).sum(-1)


def _comparable(entropy: Tensor, classes: Tensor) -> Tensor:
    """Entropies (T, ...) of tasks with so many classes (T,): where these differ, each as a share of its largest."""
    if len(classes.unique()) == 1:
        return entropy
    return entropy / classes.clamp(min=2).log().reshape(-1, *[1] * (entropy.ndim - 1))
