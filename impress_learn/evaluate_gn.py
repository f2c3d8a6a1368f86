"""Accuracy with the task inferred from the images alone (GN): groups of images that share one task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from impress_format.errors import UsageError
from impress_format.weights import permutation
from impress_learn.candidates import Candidates
from impress_learn.inference import Found, Method
from impress_learn.streams.data import Images
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import Reference, parse_references


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """One task's images, in groups, sorted by what was inferred.

    Attributes:
        task, name: its reference and its name among the candidates.
        counts: for each candidate, the number of groups taken for it.
        right: the index of the task itself among the candidates.
        accuracy: share of images with the right label under the inferred task's weights.
        known: the same under the task's own weights (GG), on the same images.
        refused: share of groups for which "none of these" would be the answer; NaN if the method cannot tell.
        samples: images asked.
    """

    task: str
    name: str
    counts: tuple[int, ...]
    right: int
    accuracy: float
    known: float
    refused: float
    samples: int

    @property
    def task_accuracy(self) -> float:
        """Share of groups for which the right task was found."""
        return self.counts[self.right] / sum(self.counts)


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Images of a task that is none of the candidates: the share of groups for which this was the answer."""

    task: str
    refused: float
    samples: int


def evaluate_gn(
    candidates: Candidates,
    method: Method,
    indices: Sequence[int],
    *,
    samples: int,
    groups: int,
    holdout: float,
    data_dir: Path,
    on_task: Callable[[], None],
) -> Iterator[Inferred]:
    """Infer the task of up to `groups` groups of `samples` images of each candidate in `indices`, among all of them.

    Raises:
        UsageError: a task has fewer images than one group.
        DataError: a data set is missing.
    """
    for index in indices:
        task = candidates.references[index]
        images, chosen = _asked(candidates, task, samples, groups, holdout, data_dir)
        found = method(candidates, torch.stack([images.batch(group)[0] for group in chosen]))
        inferred = found.tasks.tolist()
        yield Inferred(
            task=task,
            name=candidates.names[index],
            counts=tuple(torch.bincount(found.tasks.cpu(), minlength=len(candidates)).tolist()),
            right=index,
            accuracy=_accuracy(candidates, images, chosen, inferred),
            known=_accuracy(candidates, images, chosen, [index] * len(chosen)),
            refused=_refused(found),
            samples=samples * len(chosen),
        )
        on_task()


def evaluate_foreign(
    candidates: Candidates,
    method: Method,
    references: Sequence[Reference],
    *,
    samples: int,
    groups: int,
    holdout: float,
    data_dir: Path,
    on_task: Callable[[], None],
) -> Iterator[Foreign]:
    """The same for tasks that are none of the candidates.

    Raises:
        UsageError, DataError: as evaluate_gn.
    """
    for reference in references:
        images, chosen = _asked(candidates, str(reference), samples, groups, holdout, data_dir)
        found = method(candidates, torch.stack([images.batch(group)[0] for group in chosen]))
        yield Foreign(task=str(reference), refused=_refused(found), samples=samples * len(chosen))
        on_task()


def _asked(
    candidates: Candidates, task: str, samples: int, groups: int, holdout: float, data_dir: Path
) -> tuple[Images, list[torch.Tensor]]:
    """A task's images, and disjoint groups of them in a fixed random order: data sets are often sorted."""
    data = load_task(parse_references([task])[0], data_dir=data_dir, holdout=holdout)
    images = data.measured(holdout=holdout).to(candidates.loaded.basis.device)
    if len(images) < samples:
        raise UsageError(f"--samples {samples}: {task} has only {len(images)} images to measure on")
    order = torch.from_numpy(permutation(0, f"groups/{len(images)}", len(images))).to(images.device)
    count = min(groups, len(images) // samples)
    return images, list(order[: count * samples].split(samples))


def _refused(found: Found) -> float:
    return float("nan") if bool(found.surplus.isnan().any()) else float((found.surplus < 0).float().mean())


def _accuracy(candidates: Candidates, images: Images, groups: Sequence[torch.Tensor], found: Sequence[int]) -> float:
    """Share of right labels when each group runs under the weights of the task found for it."""
    right = asked = 0
    for task in sorted(set(found)):
        own = torch.cat([group for group, inferred in zip(groups, found, strict=True) if inferred == task])
        batch, labels = images.batch(own)
        right += int((candidates.loaded.logits(candidates.weights(task), batch).argmax(1) == labels).sum())
        asked += len(own)
    return right / asked
