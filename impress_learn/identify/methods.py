"""The ways to infer a task, by name: by signature, or by the entropy of the outputs (the paper's)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from impress_learn.identify import entropy
from impress_learn.identify.candidates import Candidates
from impress_learn.recognition.pixel_signature import Recognised

MethodName = Literal["auto", "signature", "one-shot", "binary", "gradient", "exhaustive"]


def infer_groups(candidates: Candidates, method: MethodName, groups: Tensor) -> Recognised:
    """Scores of all candidates for groups of images, normalised (g, n, *input_shape), those of a group of one task.

    `auto` is `signature` where every task has one, else `exhaustive`: the best, and the best of the others, on held-out
    images (docs/results/which-task.md). Only signatures tell that images are of none of the tasks.

    Raises:
        BankMismatch: `signature` is asked for, and a task has none.
    """
    settled = settle_method(candidates, method)
    if settled == "signature":
        return candidates.recognise(groups)
    if settled == "exhaustive" and not candidates.found.mixable:
        weights = map(candidates.weights, range(len(candidates)))
        scores = entropy.one_by_one(candidates.loaded, weights, candidates.counts, groups)
    else:
        scores = entropy.METHODS[settled](candidates.loaded, candidates.mixable, groups)
    unknown = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    return Recognised(scores, unknown, likelihoods=False)


def infer_one_group(candidates: Candidates, method: MethodName, parts: Iterable[Tensor]) -> Recognised:
    """As infer_groups, of one group whose images come part by part, each (n, *input_shape); one part is held at a time.

    Kept of each image are the few hundred numbers that are compared, or nothing: an entropy's mean, and its slopes, are
    those of the parts, weighed. `binary` and `gradient` look at all images time and again, and hold them.

    Raises:
        BankMismatch: as infer_groups.
    """
    settled = settle_method(candidates, method)
    if settled == "signature":
        return candidates.recognise.compare(torch.cat([candidates.recognise.embed(part) for part in parts])[None])
    if settled in ("binary", "gradient"):
        return infer_groups(candidates, settled, torch.cat(list(parts))[None])
    total, images = torch.zeros(()), 0
    for part in parts:
        scores = infer_groups(candidates, settled, part[None]).scores
        total, images = total.to(scores.device) + len(part) * scores, images + len(part)
    return Recognised(total / images, torch.zeros(1, dtype=torch.bool, device=total.device), likelihoods=False)


def settle_method(candidates: Candidates, method: MethodName) -> Literal["signature"] | entropy.MethodName:
    """What `auto` stands for in this bank; any other method itself."""
    if method != "auto":
        return method
    return "signature" if candidates.has_signatures else "exhaustive"
