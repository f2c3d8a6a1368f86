"""Which images are set apart: a fifth of each class for testing, images that belong together on one side; and how many
of the training images are held out."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from impress_format.errors import UsageError

_SHARE = 0.2


@dataclass(frozen=True)
class Member:
    """An image: what it is called, its class, and its group, None for one that was given none."""

    name: str
    label: int
    group: str | None


def together(members: Sequence[Member], copies: Iterable[Sequence[int]]) -> list[list[int]]:
    """Places of images that belong together: of one group, or copies of one another, or by way of others."""
    parent = list(range(len(members)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    groups: dict[str, int] = {}
    for place, member in enumerate(members):
        if member.group is not None:
            parent[root(place)] = root(groups.setdefault(member.group, place))
    for first, *others in copies:
        for other in others:
            parent[root(other)] = root(first)
    found: dict[int, list[int]] = defaultdict(list)
    for place in range(len(members)):
        found[root(place)].append(place)
    return list(found.values())


def set_apart(members: Sequence[Member], sets: Iterable[Sequence[int]]) -> frozenset[int]:
    """Places of the images to test on: of each class a fifth, or the nearest below it that whole sets make up, and one
    set at least where others are left to learn from.

    Sets are taken in the order of digests of their names: the same everywhere, and a set more or less moves hardly
    another from one side to the other.

    Args:
        sets: places of the images that stay together.
    """
    order = sorted(sets, key=lambda places: _digest([members[place] for place in places]))
    labels = [Counter(members[place].label for place in places) for places in order]
    images = Counter(member.label for member in members)
    wanted = {label: max(1, round(_SHARE * count)) if count > 1 else 0 for label, count in images.items()}
    taken: Counter[int] = Counter()
    chosen: set[int] = set()
    for number, counts in enumerate(labels):
        if all(taken[label] + count <= wanted[label] for label, count in counts.items()):
            taken += counts
            chosen.add(number)
    for label in sorted(images):
        if taken[label]:
            continue
        # The sets are too large for a fifth: the one that goes least beyond it.
        possible = [
            (sum(max(0, taken[one] + count - wanted[one]) for one, count in counts.items()), number)
            for number, counts in enumerate(labels)
            if label in counts and all(taken[one] + count < images[one] for one, count in counts.items())
        ]
        if possible:
            number = min(possible)[1]
            taken += labels[number]
            chosen.add(number)
    return frozenset(place for number in chosen for place in order[number])


def _digest(members: Sequence[Member]) -> bytes:
    """Digest of a set's name: that of its group, or of its first image."""
    groups = [member.group for member in members if member.group is not None]
    name = min(groups) if groups else min(member.name for member in members)
    return hashlib.sha256(os.fsencode(name)).digest()


def count_held_out(images: int, fraction: float) -> int:
    """How many of `images` training images are held out.

    Raises:
        UsageError: none would be, or none would be left.
    """
    held = round(fraction * images)
    if fraction > 0 and not 0 < held < images:
        raise UsageError(
            f"`holdout` {fraction:g} holds out {held:,} of {images:,} training images: expected some of them"
        )
    return held
