"""Accuracy with the task inferred from the images alone (GN): groups of images that share one task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from impress_format.errors import UsageError
from impress_format.weights import permutation
from impress_learn.identify.candidates import Candidates
from impress_learn.identify.methods import MethodName, infer_groups, settle_method
from impress_learn.progress import Progress
from impress_learn.running.accuracy import MeasuredOn, check_labelled, measured_on, predictions
from impress_learn.streams.classes import TaskClasses, renumbered
from impress_learn.streams.images import Images
from impress_learn.streams.reference import parse_reference

MOST_GROUPS = 100
"""Groups of one task that are asked about unless told otherwise."""
_MOST_NUMBERS = 1 << 27
"""Floats of images in memory at once: 512 MiB."""


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """One task's images in groups, and what was inferred of each.

    Attributes:
        task, name: its reference, and what it is called among the candidates.
        method: how tasks were inferred.
        counts: the references of the tasks that were inferred, and for how many groups each.
        accuracy: share of images of which the inferred task gives the right class, by name: a class of another name is
            wrong, however it is numbered.
        both: share of images whose task was found, and whose label is right: over all classes of all tasks at once
            (class-incremental, where each image is asked alone).
        known: the share of right labels under the task's own weights (GG), on the same images.
        probability: of the task that was inferred, as the scores say, mean over the groups: to be set beside
            `task_accuracy`. None of a method whose scores are no likelihoods.
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
    both: float
    known: float
    probability: float | None
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
    progress: Progress,
) -> Iterator[Inferred]:
    """Infer the task of up to `groups` groups of `samples` images of each candidate in `asked`, among all of them.

    Raises:
        UsageError: a task has fewer images than one group.
        DataError: a data set is missing.
    """
    settled = settle_method(candidates, method)
    for index in asked:
        candidate = candidates.tasks[index]
        classes = candidates.classes(index)
        data = candidates.loaded.stored_data(
            parse_reference(candidate.task),
            candidate.name,
            classes,
            data_dir=data_dir,
            holdout=holdout,
            remark=progress.remark,
        )
        check_labelled(candidate.name, data.reference)
        images = data.measured(holdout=holdout)
        chosen = _groups(images, candidate.task, samples, groups)
        shown = images.subset(chosen.flatten())
        found, unknown, probability = _infer(candidates, settled, shown, samples)
        known = _right(candidates, index, shown, classes).view(-1, samples)
        right = known.clone()
        for other in found[found != index].unique().tolist():
            taken = found == other
            right[taken] = _right(candidates, other, images.subset(chosen[taken].flatten()), classes).view(-1, samples)
        counts = torch.bincount(found, minlength=len(candidates)).tolist()
        yield Inferred(
            task=candidate.task,
            name=candidate.name,
            method=settled,
            counts={one.task: count for one, count in zip(candidates.tasks, counts, strict=True) if count},
            accuracy=int(right.sum()) / known.numel(),
            both=int(known[found == index].sum()) / known.numel(),
            known=int(known.sum()) / known.numel(),
            probability=None if probability is None else float(probability.mean()),
            unknown=float(unknown.float().mean()),
            samples=known.numel(),
            images=measured_on(holdout),
        )
        progress.step()


def _groups(images: Images, task: str, samples: int, groups: int) -> Tensor:
    """Disjoint groups (g, samples) of a task's images in a fixed random order: data sets are often sorted."""
    if len(images) < samples:
        raise UsageError(f"`samples` {samples}: {task} has only {len(images)} images to measure on")
    order = torch.from_numpy(permutation(0, f"groups/{len(images)}", len(images))).to(images.device)
    return order[: min(groups, len(images) // samples) * samples].view(-1, samples)


def _infer(
    candidates: Candidates, method: MethodName, images: Images, samples: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """For each group of `samples` images: the likeliest candidate (g,), whether it is of none of them, bool, and how
    probable that candidate is.
    """
    first, _ = images.batch(slice(0, 1))
    step = samples * max(1, _MOST_NUMBERS // (samples * first.numel()))
    found, unknown, probability = [], [], []
    for start in range(0, len(images), step):
        batch, _ = images.batch(slice(start, start + step))
        inferred = infer_groups(candidates, method, batch.unflatten(0, (-1, samples)))
        found.append(inferred.scores.argmax(1))
        unknown.append(inferred.unknown)
        if (share := inferred.probability) is not None:
            probability.append(share)
    return torch.cat(found), torch.cat(unknown), torch.cat(probability) if probability else None


def _right(candidates: Candidates, task: int, images: Images, classes: TaskClasses) -> Tensor:
    """Whether a candidate gives images of these classes the right one, bool (N,)."""
    own = candidates.classes(task)
    answers = predictions(candidates.loaded.answering(own.count), candidates.weights(task), images)
    if own.names is None or classes.names is None:
        return answers == images.labels
    numbers = torch.tensor(renumbered(classes.names, own.names), device=answers.device)
    return answers == numbers[images.labels]
