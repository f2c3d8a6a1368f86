"""Controls: what a task's images get from masks that were trained for other tasks, as these masks are."""

from __future__ import annotations

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_learn.running.accuracy import BestMask, BestMaskOf, Item, WeightsOf, accuracy
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.images import Images, evenly_spread

_MOST_WRONG_MASKS = 10
_MOST_IMAGES = 2_000
"""Training images that masks are compared on."""


def wrong_weights(loaded: RunningBank) -> WeightsOf:
    """Each item under masks that were trained for other tasks (paper, Fig. 2: the control)."""
    return lambda item: (loaded.mask_weights(index) for index in wrong_masks(loaded.bank, item.task))


def wrong_masks(bank: Bank, task: str) -> list[int]:
    """Masks trained for other tasks than `task`, at most ten, evenly spread over the bank.

    Raises:
        BankMismatch: there is none.
    """
    others = [index for index, plan in enumerate(bank.manifest.masks) if plan.task not in (None, task)]
    if not others:
        raise BankMismatch(f"no mask of {bank.path} was trained for another task than {task}: there is no wrong one")
    step = -(-len(others) // _MOST_WRONG_MASKS)
    return others[::step]


def best_mask_of(loaded: RunningBank) -> BestMaskOf:
    """What finds the best single mask for an item: of all masks of the bank but the one that is itself measured.

    A task needs no coefficient for it, an index of one byte is enough. It is chosen on up to 2,000 training images;
    among equals the first is taken.
    """

    def best(item: Item, train: Images, measured: Images) -> BestMask:
        few = train.subset(evenly_spread(len(train), _MOST_IMAGES).to(train.device))
        others = [index for index in range(len(loaded.basis)) if index != item.mask]
        backbone = loaded.answering(item.classes.count)

        def share(index: int, images: Images) -> float:
            return accuracy(backbone, loaded.mask_weights(index), images)

        index = max(others, key=lambda other: share(other, few))
        return BestMask(index, share(index, measured))

    return best
