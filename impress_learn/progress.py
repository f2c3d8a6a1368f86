"""Who is told how a job goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Progress:
    """Who is told how a job goes: functions that it calls.

    Attributes:
        begin: with the number of steps there will be.
        describe: with what comes next, for people.
        step: after each step.
        again: with a number of steps that were lost, and are done again.
        remark: with what may make a result other than it was meant, for people.

    Examples:
        >>> Progress(remark=print).remark("2 tasks are there already")
        2 tasks are there already
    """

    begin: Callable[[int], None] = lambda _: None
    describe: Callable[[str], None] = lambda _: None
    step: Callable[[], None] = lambda: None
    again: Callable[[int], None] = lambda _: None
    remark: Callable[[str], None] = lambda _: None

    def once(self) -> Progress:
        """The same, which tells each remark once, however many workers make it."""
        told = set[str]()

        def remark(text: str) -> None:
            if text not in told:
                told.add(text)
                self.remark(text)

        return replace(self, remark=remark)


SILENT = Progress()
