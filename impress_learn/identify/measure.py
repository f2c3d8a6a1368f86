"""Accuracy with the task inferred from the images alone (GN): groups of images that share one task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from impress_format.errors import UsageError
from impress_format.weights import permutation
from impress_learn.evaluate import MeasuredOn, measured_on
from impress_learn.identify.candidates import Candidates
from impress_learn.identify.methods import MethodName, infer_groups, settle_method
from impress_learn.streams.images import Images
from impress_learn.streams.reference import parse_reference

MOST_GROUPS = 100
"""Groups of one task that are asked about unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """One task's images in groups, and what was inferred of each.

    Attributes:
        task, name: its reference, and what it is called among the candidates.
        method: how tasks were inferred.
        counts: the references of the tasks that were inferred, and for how many groups each.
        accuracy: share of images with the right label under the inferred task's weights.
        known: the same under the task's own weights (GG), on the same images.
        unknown: share of groups that were found to be of none of the tasks (`counts` and `accuracy` have them as of the
            likeliest).
        samples: images asked.
        images: what they are.
    """

    task: str
    name: str
    method: str
    counts: dict[str, int]
    accuracy: float
    known: float
    unknown: float
    samples: int
    images: MeasuredOn

    @property
    def task_accuracy(self) -> float:
        """Share of groups for which the right task was found."""
        return self.counts.get(self.task, 0) / sum(self.counts.values())


def infer_tasks(
    candidates: Candidates,
    method: MethodName,
    asked: Sequence[int],
    *,
    samples: int,
    groups: int,
    holdout: float,
    data_dir: Path | None,
    on_task: Callable[[], None],
) -> Iterator[Inferred]:
    """Infer the task of up to `groups` groups of `samples` images of each candidate in `asked`, among all of them.

    Raises:
        UsageError: a task has fewer images than one group.
        DataError: a data set is missing.
    """
    settled = settle_method(candidates, method)
    for index in asked:
        candidate = candidates.tasks[index]
        data = candidates.loaded.task_data(parse_reference(candidate.task), data_dir=data_dir, holdout=holdout)
        images = data.measured(holdout=holdout)
        chosen = _groups(images, candidate.task, samples, groups)
        inferred = infer_groups(candidates, settled, torch.stack([images.batch(group)[0] for group in chosen]))
        found = inferred.scores.argmax(1).tolist()
        counts = torch.bincount(torch.tensor(found), minlength=len(candidates)).tolist()
        yield Inferred(
            task=candidate.task,
            name=candidate.name,
            method=settled,
            counts={one.task: count for one, count in zip(candidates.tasks, counts, strict=True) if count},
            accuracy=_accuracy(candidates, images, chosen, found),
            known=_accuracy(candidates, images, chosen, [index] * len(chosen)),
            unknown=float(inferred.unknown.float().mean()),
            samples=samples * len(chosen),
            images=measured_on(holdout),
        )
        on_task()


def _groups(images: Images, task: str, samples: int, groups: int) -> Sequence[Tensor]:
    """Disjoint groups of a task's images in a fixed random order: data sets are often sorted."""
    if len(images) < samples:
        raise UsageError(f"`samples` {samples}: {task} has only {len(images)} images to measure on")
    order = torch.from_numpy(permutation(0, f"groups/{len(images)}", len(images))).to(images.device)
    return list(order[: min(groups, len(images) // samples) * samples].view(-1, samples))


def _accuracy(candidates: Candidates, images: Images, groups: Sequence[Tensor], found: Sequence[int]) -> float:
    """Share of right labels when each group runs under the weights of the task found for it."""
    right = asked = 0
    for task in sorted(set(found)):
        own = torch.cat([group for group, inferred in zip(groups, found, strict=True) if inferred == task])
        batch, labels = images.batch(own)
        right += int((candidates.loaded.logits(candidates.weights(task), batch).argmax(1) == labels).sum())
        asked += len(own)
    return right / asked
