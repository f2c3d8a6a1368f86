"""Which masks of a bank vote in a task, and with what share: by the labels of its images, or without.

The shares are the softmax of how likely each mask is, for one image on average: by how likely it finds the label, and
by what the bank's task classifier says of the image. Where no label is known, what the vote itself answers stands for
it, a few times over (docs/method.md, Votes). Nothing is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.parts.vote import VOTE_TEMPERATURE, restore_vote, store_vote
from impress_learn.parts.part import Array
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.classes import TaskClasses, masks_that_may_answer
from impress_learn.streams.images import Images, evenly_spread
from impress_learn.tasks.few import evidence_of_masks

_SCALE = 4.0
"""What the task classifier's log-likelihood of an image is divided by: it is too sure (docs/trials.md, Votes)."""
_BY_LABELS, _ROUNDS = 0.7, 5
"""How much the labels count beside the task classifier, and how often answers stand for labels: chosen on held-out
images; after three rounds shares hardly move."""
_LEAST_SURE = 0.6
"""Threshold of `sure`: below it the bank may have no mask for these images (docs/trials.md, Votes)."""
_LEAST = 1 / 16
"""Least share of a mask that votes, relative to the largest."""
_OPTIMISM = 0.6
"""Over the root of the number of images: by how much coefficients are more accurate on images that they were learned
from than on others. Measured; such as a ridge holds near a mask that fits are less so (docs/trials.md, Votes)."""
_NEVER = -1e9
"""Log-likelihood under a mask that may not answer: of infinities differences would be none."""
_MOST_IMAGES, _AT_ONCE = 1_000, 500


@dataclass(frozen=True, eq=False)
class Chosen:
    """A vote as it is stored, and what it promises.

    Attributes:
        stored: its bytes.
        accuracy: share of images whose label is answered under shares that the others choose; None without labels.
        sure: how likely the vote finds its answer, on average: less than how often it is right, where masks fit.
        words: who votes, for people.
    """

    stored: Array
    accuracy: float | None
    sure: float
    words: str

    def doubt(self, name: str) -> str | None:
        """What is to be said of a task whose masks are not sure of their answers; None where they are.

        Args:
            name: of the task.
        """
        if self.sure >= _LEAST_SURE:
            return None
        return (
            f"{name}: the masks that vote find their answers {self.sure:.0%} likely on average, so that most may be "
            "wrong: of digits the right ones found them 69 % likely or more, and where half were wrong 52 % or less"
        )

    def beats(self, learned: float, images: int) -> bool:
        """Whether it promises more than coefficients of this accuracy on the images that they were learned from."""
        return self.accuracy is None or self.accuracy >= learned - _OPTIMISM / math.sqrt(images)


def choose_vote(loaded: RunningBank, train: Images, *, classes: TaskClasses, labelled: bool = True) -> Chosen:
    """The masks that vote for a task of these images, up to 1,000 of them.

    Args:
        classes: that the task tells apart; a mask of others, or in another order, has no share.
        labelled: whether labels of the images are known; else they are not looked at.

    Raises:
        BankMismatch: without labels, of a bank whose task classifier knows no task of a mask.
        FormatError: a file of the bank is damaged.
    """
    images = train.subset(evenly_spread(len(train), _MOST_IMAGES).to(train.device))
    by_tasks, likely = _by_tasks(loaded, images), _likely(loaded, images, classes.count)
    silent = ~torch.tensor(masks_that_may_answer(loaded.bank, classes))
    if by_tasks is not None:
        by_tasks[silent] = -torch.inf
    if not labelled:
        if by_tasks is None:
            raise BankMismatch(f"{loaded.bank.path} has no mask whose task its task classifier knows")
        shares = _shares(by_tasks)
        for _ in range(_ROUNDS):
            answers = _answers(shares, likely)
            shares = _shares(_both((answers * likely).sum(2).mean(1), by_tasks))
        return _chosen(loaded.bank, shares, likely, None)
    if by_tasks is not None and not bool(by_tasks[~silent].isfinite().all()):
        by_tasks = None  # else no label could speak for a mask whose task nobody knows
    labels, count = images.labels.cpu(), len(images)
    at_label = likely.gather(2, labels[None, :, None].expand(len(likely), -1, 1))[..., 0]
    at_label[silent] = _NEVER
    by_others = (at_label.sum(1, keepdim=True) - at_label) / max(count - 1, 1)  # for each image, of all the others
    each = _shares(_both(by_others, None if by_tasks is None else by_tasks[:, None]))
    right = _answers(each, likely).argmax(1) == labels
    return _chosen(loaded.bank, _shares(_both(at_label.mean(1), by_tasks)), likely, int(right.sum()) / count)


def _chosen(bank: Bank, shares: Tensor, likely: Tensor, accuracy: float | None) -> Chosen:
    stored = store_vote(shares.numpy())
    sure = (shares[:, None, None] * likely.exp()).sum(0).max(1).values.mean()
    return Chosen(stored, accuracy, float(sure), _words(bank, stored))


def _both(by_labels: Tensor, by_tasks: Tensor | None) -> Tensor:
    return by_labels if by_tasks is None else _BY_LABELS * by_labels + (1 - _BY_LABELS) * by_tasks


def _shares(likely: Tensor) -> Tensor:
    """Shares (K, ...) of what is likely, of those that are large enough."""
    shares = torch.softmax(likely, 0)
    shares = shares * (shares >= _LEAST * shares.max(0, keepdim=True).values)
    return shares / shares.sum(0, keepdim=True)


def _by_tasks(loaded: RunningBank, images: Images) -> Tensor | None:
    """How likely one of these images is under the task of each mask (K,), as evidence_of_masks has it."""
    evidence = evidence_of_masks(loaded, images)
    return None if evidence is None else evidence / (_SCALE * len(images))


def _likely(loaded: RunningBank, images: Images, classes: int) -> Tensor:
    """How likely each mask finds each class of each image, as logarithm (K, n, classes)."""
    backbone, found = loaded.answering(classes), list[Tensor]()
    with torch.no_grad():
        for index in range(len(loaded.basis)):
            weights = loaded.mask_weights(index)
            parts = (slice(start, start + _AT_ONCE) for start in range(0, len(images), _AT_ONCE))
            logits = torch.cat([backbone(weights, images.batch(part)[0]) for part in parts])
            found.append(torch.log_softmax(logits, 1).cpu())
    return torch.stack(found)


def _answers(shares: Tensor, likely: Tensor) -> Tensor:
    """What the vote finds likely of each image (n, classes), by shares (K,) of all images or (K, n) of each."""
    each = shares.view(len(shares), -1, 1) * torch.softmax(likely / VOTE_TEMPERATURE, 2)
    return torch.softmax(VOTE_TEMPERATURE * each.sum(0).log(), 1)


def _words(bank: Bank, stored: Array) -> str:
    shares = restore_vote(stored)
    first, voting = int(shares.argmax()), int((shares > 0).sum())
    label = f"mask {first} ({bank.manifest.masks[first].label})"
    return label if voting == 1 else f"{voting} votes, most of {label}"
