"""A vote: the bank's masks answer one by one, and what they answer is averaged (docs/method.md, Votes)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.parts.vote import VOTE as FORMAT
from impress_format.parts.vote import store_vote
from impress_format.tasks.file import StoredTask
from impress_format.versions import require_version
from impress_learn.parts.part import Array, TaskPart
from impress_learn.training.config import require

if TYPE_CHECKING:
    from impress_learn.parts.table import Parts


def _settle(bank: Bank, parts: Parts) -> Parts:
    if not parts.vote:
        return replace(parts, vote=False)
    alone = type(parts)(vote=True, alpha=False, head=0, signature=parts.signature)
    require(
        not parts.alpha and not parts.head and replace(parts, alpha=False, head=0) == alone,
        "`vote` stands alone: leave out all that says something of other parts",
    )
    if not bank.manifest.masks:
        raise BankMismatch(f"{bank.path} has no mask that could vote")
    require_version(bank.path, bank.manifest.format_version, "which has no vote")
    return alone


def _of_stored(stored: StoredTask) -> Mapping[str, Any]:
    return {"vote": FORMAT.of(stored) is not None}


def _blank(bank: Bank, _: Parts, __: int) -> Array:
    return store_vote(np.ones(len(bank.manifest.masks), dtype=np.float32))


VOTE = TaskPart(
    format=FORMAT,
    fields=("vote",),
    asked=lambda parts: bool(parts.vote),
    settle=_settle,
    of_stored=_of_stored,
    blank=_blank,
    words=lambda _, masks: f"votes of {masks:,} masks",
)
