"""The ways to infer a task, by name: by signature, or by the entropy of the outputs (the paper's)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from impress_learn.identify import entropy
from impress_learn.identify.candidates import Candidates
from impress_learn.identify.signature import Recognised

MethodName = Literal["auto", "signature", "one-shot", "binary", "gradient", "exhaustive"]


def infer_groups(candidates: Candidates, method: MethodName, groups: Tensor) -> Recognised:
    """Scores of all candidates for groups of images, normalised (g, n, *input_shape), those of a group of one task.

    `auto` is `signature` where every task has one, else `exhaustive`: the best, and the best of the others, on held-out
    images (docs/results.md, Which task). Only signatures tell that images are of none of the tasks.

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


def settle_method(candidates: Candidates, method: MethodName) -> Literal["signature"] | entropy.MethodName:
    """What `auto` stands for in this bank; any other method itself."""
    if method != "auto":
        return method
    return "signature" if candidates.signed else "exhaustive"
