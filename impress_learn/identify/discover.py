"""A stream of labelled images whose tasks nobody names: known tasks are recognised, others become new ones.

SupSup calls the setting NNs: the task is known neither in training nor at test. Images come in chunks, each of one
task, and nobody says when the task changes. A chunk that fits no task known so far opens a new one; its coefficients
are learned from all chunks that were taken for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from impress_format.records.manifest import Preprocess
from impress_format.weights import permutation
from impress_learn.identify.candidates import Candidates, Mixable
from impress_learn.identify.entropy import entropy_slopes
from impress_learn.masks.basis import refine
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.classes import TaskClasses, classes_of_data, renumbered
from impress_learn.streams.images import Images, ImagesInMemory
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import Reference
from impress_learn.tasks.weights import fit_alpha
from impress_learn.training.config import TaskTraining, task_training

Rule = Literal["signature", "supsup"]

EPSILON = 0.125
"""Threshold of SupSup's rule (Wortsman et al. 2020, Sec. 3.4), as in its published code."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Images that share one task.

    Attributes:
        source: the reference they are of, which no decision looks at.
        classes: what their labels are numbers of.
    """

    source: Reference
    classes: TaskClasses
    images: Images

    def labelled(self, classes: TaskClasses | None) -> Images:
        """The images whose class is one of these, by name, with labels that number these."""
        if classes is None or classes == self.classes or classes.names is None or self.classes.names is None:
            return self.images
        return self.images.renumbered(renumbered(self.classes.names, classes.names))


@dataclass(eq=False)
class Group:
    """A task that chunks are taken for.

    Attributes:
        place: among the candidates, or None for one that was opened.
        chunks: those of an opened task, to be learned from.
        taken: the references that chunks were of, with their numbers.
        signature: of the images so far.
        alpha: (K, columns), of an opened task learned from its first chunk; only SupSup's rule asks for it.
    """

    place: int | None
    signature: bytes
    alpha: Tensor | None = None
    chunks: list[Chunk] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)

    def images(self, classes: TaskClasses | None = None) -> ImagesInMemory:
        """The images of all its chunks.

        Args:
            classes: what their labels are to be numbers of; images of other classes are left out. None for all images,
                with labels that chunks need not share.
        """
        first = self.chunks[0].images
        parts = [chunk.labelled(classes) for chunk in self.chunks]
        return ImagesInMemory(
            torch.cat([part.pixels_of(slice(None)) for part in parts]),
            torch.cat([part.labels for part in parts]),
            first.mean,
            first.std,
            first.augment,
        )


def chunks_of(
    references: Sequence[Reference],
    *,
    size: int,
    images: int | None,
    seed: int,
    data_dir: Path | None,
    view: Preprocess | None,
    device: torch.device,
) -> Iterator[Chunk]:
    """The stream: training images of each reference in turn, whole chunks in random order, none of them twice.

    Args:
        images: of each reference at most; one that is named n times gives a n-th of its images each time.
    """
    named, seen = Counter(references), Counter[Reference]()
    for reference in references:
        train = load_task(reference, data_dir=data_dir, view=view, device=device).train
        share = len(train) // named[reference]
        order = torch.from_numpy(permutation(seed, f"discover/{reference}", len(train)))
        classes = classes_of_data(reference, data_dir)
        part = order[seen[reference] * share :][: min(share, images or share) // size * size]
        seen[reference] += 1
        for rows in part.split(size):
            if len(rows):
                yield Chunk(reference, classes, train.subset(rows.to(train.device)))


def count_chunks(references: Sequence[Reference], *, size: int, images: int | None) -> int:
    """How many chunks `chunks_of` gives."""
    named = Counter(references)
    shares = [reference.data_set.train_images // named[reference] for reference in references]
    return sum(min(share, images or share) // size for share in shares)


def discover(
    candidates: Candidates, stream: Iterator[Chunk], *, rule: Rule, fit: TaskTraining, on_chunk: Callable[[], None]
) -> list[Group]:
    """Take each chunk for a task known so far, or open a new one for it; those that chunks were taken for, in order.

    Raises:
        BankMismatch: a known task has no signature.
    """
    if rule == "signature":
        candidates.check_has_signatures()
    find = _by_signature if rule == "signature" else _by_entropy
    groups = [Group(place, row.tobytes()) for place, row in enumerate(candidates.found.signatures)]
    for chunk in stream:
        place = find(candidates, groups, chunk.images)
        if place is None:
            place = len(groups)
            groups.append(Group(None, b""))
        group = groups[place]
        group.taken[str(chunk.source)] += 1
        if group.place is None:
            group.chunks.append(chunk)
            _learn_from(candidates.loaded, group, rule, fit)
        on_chunk()
    return [group for group in groups if group.taken]


def _by_signature(candidates: Candidates, groups: Sequence[Group], images: Images) -> int | None:
    rows = np.frombuffer(b"".join(group.signature for group in groups), dtype=np.uint8).reshape(len(groups), -1)
    found = candidates.check_has_signatures().known(rows, candidates.found.headed)(images.batch(slice(None))[0][None])
    return None if bool(found.unknown[0]) else int(found.scores[0].argmax())


def _by_entropy(candidates: Candidates, groups: Sequence[Group], images: Images) -> int | None:
    """SupSup's rule: new if T * max softmax(-slopes) < 1 + epsilon at the uniform mixture."""
    mixable, loaded = candidates.mixable, candidates.loaded
    channels = [layer.shape[0] for layer in loaded.bank.backbone.masked_layers]
    opened = [refine(group.alpha, channels, 1, mixable.granularity) for group in groups if group.alpha is not None]
    tasks = Mixable(
        torch.cat([mixable.alpha, *(alpha.to(mixable.alpha.device)[None] for alpha in opened)]),
        mixable.granularity,
        torch.cat([mixable.classes, mixable.classes.new_full((len(opened),), loaded.bank.backbone.classes)]),
    )
    mixture = torch.full((len(tasks),), 1.0 / len(tasks), device=tasks.alpha.device)
    share = torch.softmax(-entropy_slopes(loaded, tasks, images.batch(slice(None))[0], mixture), dim=0)
    return None if len(tasks) * float(share.max()) < 1.0 + EPSILON else int(share.argmax())


def _learn_from(loaded: RunningBank, group: Group, rule: Rule, fit: TaskTraining) -> None:
    """Make what tells an opened task's images from others, from all it has."""
    count = len(group.chunks)
    if rule == "signature" and count & (count - 1) == 0:  # twice as many say more, one more hardly
        assert loaded.signature_maker is not None
        group.signature = loaded.signature_maker.make_signature(group.images(), None, fit.seed)
    elif rule == "supsup" and count == 1:  # enough for slopes; the rest is learned at the end
        images = group.images()
        settled = task_training(fit.record(len(images)))
        group.alpha = fit_alpha(
            loaded.backbone.answering(group.chunks[0].classes.count),
            loaded.basis,
            images,
            settled,
            granularity=1,
            on_step=lambda: None,
            calibration=loaded.calibration,
        )
