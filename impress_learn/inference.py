"""Which task are these images of? The paper's label-free methods, and ours (docs/method.md, Which task).

A mixture p of tasks has the coefficients sum_t p_t alpha^t, since effective weights are linear in alpha. So the
gradient of the outputs' mean entropy H by p is one product, <alpha^t, dH/dalpha>: one forward and one backward pass
whatever the number of tasks is, and no weights of a task are ever built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from impress_learn.backbone import calibrate
from impress_learn.candidates import Candidates, Mixable
from impress_learn.combine import effective_weights
from impress_learn.evaluate import LoadedBank
from impress_learn.features import layer_features
from impress_learn.identity import log_ratios

_STEPS = 10
"""Steps of `gradient`."""
_MOST_WEIGHTS = 1 << 24
"""Effective weights in memory at once in `entropies`: 64 MiB."""
_BATCH = 512
_SHORTLIST = 16
"""Tasks that `auto` tries out, of those whose signatures fit best."""
_CONFIDENCE = 4.0
"""Nats of signature that a nat of entropy an image counts for in `auto`; chosen on held-out rotated MNIST."""
DRIFT = 0.25
"""Of "none of these", chosen on digits of other writers and on held-out MNIST (docs/results.md, Which task): without
it many images would be found unlike their own task, since every difference becomes significant in the end."""


@dataclass(frozen=True, eq=False)
class Found:
    """What was inferred for g groups of images.

    Attributes:
        tasks: int64 (g,), indices among the candidates.
        scores: (g, T), larger for likelier tasks; minus infinity for those not tried out.
        surplus: (g,), nats by which the images speak for one of these tasks against a task never seen; below 0 they
            are of none of these. NaN where the method cannot tell.
    """

    tasks: Tensor
    scores: Tensor
    surplus: Tensor


Method = Callable[[Candidates, Tensor], Found]


def one_shot(candidates: Candidates, groups: Tensor) -> Found:
    """The task whose weight, increased from the uniform mixture, lowers the entropy fastest (SupSup, Eq. 4).

    Args:
        groups: normalised (g, n, *input_shape), the n images of a group of one task.
    """
    uniform = torch.full((len(candidates),), 1.0 / len(candidates), device=groups.device)
    return _by_scores(
        torch.stack([-entropy_slopes(candidates.loaded, candidates.mixable, images, uniform) for images in groups])
    )


def binary(candidates: Candidates, groups: Tensor) -> Found:
    """As one_shot, but only the better half is kept each time, until one is left: log2(T) passes (SupSup)."""
    return _by_scores(torch.stack([_halve(candidates, images) for images in groups]))


def gradient(candidates: Candidates, groups: Tensor) -> Found:
    """Ten steps of exponentiated gradient descent on the mixture, which keep it a mixture; the largest share wins.

    The slopes are taken in units of their own deviation, since their size varies by orders between networks.
    """
    return _by_scores(torch.stack([_descend(candidates, images) for images in groups]))


def exhaustive(candidates: Candidates, groups: Tensor) -> Found:
    """The task under whose own weights the outputs' mean entropy is least: T forward passes, many in one."""
    return _by_scores(-_group_entropies(candidates, range(len(candidates)), groups))


def signature(candidates: Candidates, groups: Tensor) -> Found:
    """The task whose signature fits best: one pass of the frozen network and one product, whatever T is.

    Raises:
        ValueError: a candidate has no signature.
    """
    if candidates.places is None or (identifier := candidates.loaded.identifier) is None:
        raise ValueError("a candidate has no signature")
    means = torch.stack([_mean_features(candidates.loaded, images) for images in groups])
    ratios = log_ratios(identifier, means, groups.shape[1], candidates.places)
    wary = log_ratios(identifier, means, groups.shape[1], candidates.places, drift=DRIFT)
    return Found(ratios.argmax(1), ratios, wary.logsumexp(1) - math.log(len(candidates)))


def auto(candidates: Candidates, groups: Tensor) -> Found:
    """A shortlist by signature, decided by signature and entropy together; without signatures, `exhaustive`."""
    if candidates.places is None:
        return exhaustive(candidates, groups)
    found = signature(candidates, groups)
    listed = found.scores.topk(min(_SHORTLIST, len(candidates)), dim=1).indices
    tried = listed.unique()
    entropies = torch.full_like(found.scores, math.inf)
    entropies[:, tried] = _group_entropies(candidates, tried.tolist(), groups)
    allowed = torch.zeros_like(found.scores, dtype=torch.bool).scatter_(1, listed, value=True)
    scores = (found.scores - _CONFIDENCE * groups.shape[1] * entropies).masked_fill(~allowed, -math.inf)
    return Found(scores.argmax(1), scores, found.surplus)


METHODS: dict[str, Method] = {
    "auto": auto,
    "signature": signature,
    "one-shot": one_shot,
    "binary": binary,
    "gradient": gradient,
    "exhaustive": exhaustive,
}


def entropies(candidates: Candidates, indices: Sequence[int], images: Tensor) -> Tensor:
    """Entropy in nats of the outputs for each image (n, *input_shape) under each task's own weights: (tasks, n)."""
    mixable = candidates.mixable if len(indices) == len(candidates) else candidates.alphas(indices)
    parts = [_entropy(task_logits(candidates.loaded, mixable, batch)) for batch in images.split(_BATCH)]
    return torch.cat(parts, dim=1)


def entropy_slopes(loaded: LoadedBank, tasks: Mixable, images: Tensor, mixture: Tensor) -> Tensor:
    """dH/dp (T,) at the mixture p (T,) of tasks, H the mean entropy of the outputs for images (n, *input_shape)."""
    alpha = torch.tensordot(mixture, tasks.alpha, dims=1).requires_grad_()
    weights = effective_weights(loaded.basis, alpha, tasks.granularity)
    if loaded.calibration is not None:
        calibrate(loaded.backbone, {name: weight.detach() for name, weight in weights.items()}, loaded.calibration)
    entropy = _entropy(loaded.backbone(weights, images)).mean()
    slope: Tensor = torch.autograd.grad(entropy, alpha)[0]
    slopes: Tensor = tasks.alpha.flatten(1) @ slope.flatten()
    return slopes


def task_logits(loaded: LoadedBank, tasks: Mixable, images: Tensor) -> Tensor:
    """Logits (T, n, classes) under each task's own weights."""
    if loaded.calibration is not None:
        # Norm statistics are a task's own and are kept in the module: one task at a time.
        return torch.stack(
            [loaded.logits(effective_weights(loaded.basis, alpha, tasks.granularity), images) for alpha in tasks.alpha]
        )
    module = loaded.backbone.module

    def forward(alpha: Tensor) -> Tensor:
        weights = effective_weights(loaded.basis, alpha, tasks.granularity)
        output: Tensor = functional_call(module, weights, (images,))
        return output

    run: Callable[[Tensor], Tensor] = vmap(forward)
    at_once = max(1, _MOST_WEIGHTS // loaded.bank.backbone.weights)
    with torch.no_grad():
        logits: Tensor = torch.cat([run(piece) for piece in tasks.alpha.split(at_once)])
    return logits


def _by_scores(scores: Tensor) -> Found:
    return Found(scores.argmax(1), scores, torch.full((len(scores),), math.nan))


def _group_entropies(candidates: Candidates, indices: Sequence[int], groups: Tensor) -> Tensor:
    """Mean entropy of each group's images under each task: (g, tasks)."""
    each = entropies(candidates, indices, groups.flatten(0, 1))
    return each.reshape(len(each), *groups.shape[:2]).mean(2).T


def _mean_features(loaded: LoadedBank, images: Tensor) -> Tensor:
    total = sum(layer_features(loaded.backbone, part, loaded.calibration).sum(0) for part in images.split(_BATCH))
    return torch.as_tensor(total) / len(images)


def _halve(candidates: Candidates, images: Tensor) -> Tensor:
    """Scores (T,): how many rounds each task stays, and in its last round its slope."""
    scores = torch.zeros(len(candidates), device=images.device)
    left = torch.arange(len(candidates), device=images.device)
    while len(left) > 1:
        mixture = torch.zeros(len(candidates), device=images.device)
        mixture[left] = 1.0 / len(left)
        order = entropy_slopes(candidates.loaded, candidates.mixable, images, mixture)[left].argsort(stable=True)
        left = left[order[: (len(left) + 1) // 2 if len(left) > 2 else 1]]
        scores[left] += 1.0
    return scores


def _descend(candidates: Candidates, images: Tensor) -> Tensor:
    mixture = torch.full((len(candidates),), 1.0 / len(candidates), device=images.device)
    for _ in range(_STEPS):
        slopes: Tensor = entropy_slopes(candidates.loaded, candidates.mixable, images, mixture)
        scaled = (slopes - slopes.mean()) / slopes.std(correction=0).clamp(min=1e-12)
        mixture = torch.softmax(mixture.clamp(min=1e-30).log() - scaled, dim=0)
    return mixture


def _entropy(logits: Tensor) -> Tensor:
    """Entropy in nats over the last axis."""
    log_probability = torch.log_softmax(logits, dim=-1)
    return -(log_probability.exp() * log_probability).sum(-1)
