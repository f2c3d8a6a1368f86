"""Who is told how a job goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Watch:
    """Who is told how a job goes: `begin` with the number of steps, `describe` what comes, `step`, `remark`."""

    begin: Callable[[int], None] = lambda _: None
    describe: Callable[[str], None] = lambda _: None
    step: Callable[[], None] = lambda: None
    remark: Callable[[str], None] = lambda _: None


SILENT = Watch()
