"""Which masks of a bank vote in a task, and with what share: by what few images say, or the task classifier alone.

The shares are the softmax of how likely each mask is, for one image on average: by the labels, by the task classifier,
or halfway between (docs/method.md, Votes). Nothing is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impress_format.bank import Bank
from impress_format.parts.vote import restore_vote, store_vote
from impress_learn.network.backbone import VOTE_TEMPERATURE
from impress_learn.parts.part import Array
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.images import Images, evenly_spread
from impress_learn.tasks.few import evidence_of_masks

_SCALE = 4.0
"""What the task classifier's log-likelihood of an image is divided by: it is too sure (docs/results.md, Votes)."""
_LEAST = 1 / 16
"""Of the largest share: a mask with less is not asked."""
_OPTIMISM = 0.6
"""Over the root of the number of images: by how much coefficients are more accurate on images that they were learned
from than on others. Measured; such as a ridge holds near a mask that fits are less so (docs/results.md, Votes)."""
_MOST_IMAGES, _AT_ONCE = 2_000, 500


@dataclass(frozen=True, eq=False)
class Chosen:
    """A vote as it is stored, and what it promises.

    Attributes:
        stored: its bytes.
        accuracy: share of images whose label is answered under shares that the others choose; None without labels.
        words: who votes, for people.
    """

    stored: Array
    accuracy: float | None
    words: str

    def beats(self, learned: float, images: int) -> bool:
        """Whether it promises more than coefficients of this accuracy on the images that they were learned from."""
        return self.accuracy is None or self.accuracy >= learned - _OPTIMISM / math.sqrt(images)


def choose_vote(loaded: RunningBank, train: Images, *, classes: int, labelled: bool = True) -> Chosen:
    """The masks that vote for a task of these images, up to 2,000 of them.

    Args:
        classes: that the task tells apart.
        labelled: whether labels of the images are known; else the task classifier alone is asked.

    Raises:
        FormatError: a file of the bank is damaged.
    """
    images = train.subset(evenly_spread(len(train), _MOST_IMAGES).to(train.device))
    count = len(images)
    evidence = evidence_of_masks(loaded, images)
    by_tasks = None if evidence is None else evidence / (_SCALE * count)
    if not labelled:
        assert by_tasks is not None
        stored = store_vote(_shares(by_tasks).numpy())
        return Chosen(stored, None, _words(loaded.bank, stored))
    sure, softened, labels = _likely(loaded, images, classes)
    stored = store_vote(_shares(_both(sure.mean(1), by_tasks)).numpy())
    others = (sure.sum(1, keepdim=True) - sure) / max(count - 1, 1)  # by all images but one, for each
    shares = _shares(_both(others, None if by_tasks is None else by_tasks[:, None]))
    answers = (shares[..., None] * softened.exp()).sum(0).argmax(1)
    return Chosen(stored, int((answers == labels).sum()) / count, _words(loaded.bank, stored))


def _both(by_labels: Tensor, by_tasks: Tensor | None) -> Tensor:
    return by_labels if by_tasks is None else (by_labels + by_tasks) / 2


def _shares(likely: Tensor) -> Tensor:
    """Shares (K, ...) of what is likely, of those that are large enough."""
    shares = torch.softmax(likely, 0)
    shares = shares * (shares >= _LEAST * shares.max(0, keepdim=True).values)
    return shares / shares.sum(0, keepdim=True)


def _likely(loaded: RunningBank, images: Images, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """How likely each mask finds the label of each image (K, n), and each class as votes are counted (K, n, classes),
    both as logarithms; the labels (n,).
    """
    backbone, at_label, of_classes = loaded.backbone.answering(classes), list[Tensor](), list[Tensor]()
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(images), _AT_ONCE)]
    labels = images.labels
    with torch.no_grad():
        for index in range(len(loaded.basis)):
            weights = loaded.mask_weights(index)
            logits = torch.cat([backbone(weights, images.batch(part)[0]) for part in parts])
            at_label.append(-cross_entropy(logits, labels, reduction="none"))
            of_classes.append(torch.log_softmax(logits / VOTE_TEMPERATURE, 1))
    return torch.stack(at_label).cpu(), torch.stack(of_classes).cpu(), labels.cpu()


def _words(bank: Bank, stored: Array) -> str:
    shares = restore_vote(stored)
    first, voting = int(shares.argmax()), int((shares > 0).sum())
    label = f"mask {first} ({bank.manifest.masks[first].label})"
    return label if voting == 1 else f"{voting} votes, most of {label}"
