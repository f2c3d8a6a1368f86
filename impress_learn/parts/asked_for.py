"""What must be asked for to get the parts that a stored task has: for the command that makes it again."""

from __future__ import annotations

from impress_format.bank import Bank
from impress_format.errors import ImpressError
from impress_learn.parts.table import Parts, all_parts, for_classes, settle


def asked_for(bank: Bank, parts: Parts, classes: int) -> dict[str, object]:
    """What must be asked for to get these parts in this bank, by field: all else is as it is where nobody asks.

    Args:
        parts: that a stored task has.
        classes: that it tells apart.
    """
    asked: dict[str, object] = {}
    for name in (name for part in all_parts() for name in part.fields):
        try:
            usual = for_classes(settle(bank, Parts(**asked)), classes)  # type: ignore[arg-type]
        except ImpressError:  # what is still to be asked for is missing
            usual = Parts(**asked)  # type: ignore[arg-type]
        if getattr(usual, name) != (own := getattr(parts, name)):
            asked[name] = own
    return asked
