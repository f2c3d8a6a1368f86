"""What is scattered over workers: work of many items, each of which gives files of a bank, whoever does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from impress_format.errors import FormatError, ImpressError
from impress_learn.progress import Progress
from impress_learn.running.device import compute_deterministically

if TYPE_CHECKING:
    import torch

    from impress_format.records.training import Elsewhere

Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True)
class TorchSettings:
    """How torch computes in each worker.

    Attributes:
        device: its name.
        deterministic: whether a GPU gives the same result every time.
        threads: of a CPU.
    """

    device: str
    deterministic: bool = False
    threads: int = 1

    @staticmethod
    def of(device: torch.device, threads: int = 1) -> TorchSettings:
        """As in this process."""
        import torch

        return TorchSettings(str(device), torch.are_deterministic_algorithms_enabled(), threads)

    def apply(self) -> torch.device:
        """Have this process compute so; the device."""
        import torch

        torch.set_num_threads(self.threads)
        if self.deterministic:
            compute_deterministically()
        return torch.device(self.device)


class Work(Protocol, Generic[Item_contra, Result_co]):
    """What each worker does. It is sent to all of them: data alone, no functions."""

    def begin(self, progress: Progress) -> Callable[[Item_contra], Result_co]:
        """What does one item; called once in each worker, after which torch may be imported."""

    def name(self, item: Item_contra) -> str:
        """What an item is, for people."""


class BankWork(Work[Item_contra, Result_co], Protocol[Item_contra, Result_co]):
    """Work over a bank, of which whoever shares no folder with it is sent the files that it needs (docs/cluster.md)."""

    @property
    def settings(self) -> TorchSettings:
        """How torch computes."""

    @property
    def path(self) -> Path:
        """The bank's folder."""

    def needs(self) -> Mapping[str, bytes]:
        """Files of the bank that it reads, by their paths below the folder."""

    def gives(self, item: Item_contra) -> Sequence[str]:
        """Files of the bank that doing an item makes."""

    def elsewhere(
        self, path: Path, settings: TorchSettings, recorded: Elsewhere | None
    ) -> BankWork[Item_contra, Result_co]:
        """The same over a copy of the bank; `recorded` goes into the files that it makes."""


class Steps:
    """Steps of a worker, told a few times a second.

    Args:
        tell: told how many there were since it was told last.
        every: seconds between two calls of it.
    """

    def __init__(self, tell: Callable[[int], None], every: float = 0.2) -> None:
        self._tell, self._every, self._count, self._last = tell, every, 0, time.monotonic()

    def step(self) -> None:
        """One more."""
        self._count += 1
        if time.monotonic() - self._last >= self._every:
            self.tell()

    def tell(self) -> None:
        """Those that were not told yet."""
        if self._count:
            self._tell(self._count)
        self._count, self._last = 0, time.monotonic()


Said = tuple[type[ImpressError] | None, str]
"""An error as a worker tells it: its class where it is one of ours, and its text."""


def said_of(error: Exception) -> Said:
    """An error, to be told to another process; of one that is none of ours all that it says."""
    if isinstance(error, ImpressError):
        return type(error), str(error)
    import traceback

    return None, "".join(traceback.format_exception(error))


def raised_again(kind: type[ImpressError] | None, text: str) -> Exception:
    """An error that a worker told of."""
    if kind is None:
        return RuntimeError(f"a worker failed:\n{text}")
    error = kind.__new__(kind)
    Exception.__init__(error, text)
    if isinstance(error, FormatError):
        path, _, error.problem = text.partition(": ")
        error.path = Path(path)
    return error
