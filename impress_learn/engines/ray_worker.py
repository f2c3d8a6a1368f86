"""What a worker of a Ray cluster does: a copy of the bank in a folder of its own, in which items are done.

A worker is an actor: it begins its work once, a process of it that dies is seen at once, and Ray starts none of its
items anew by itself (a task that was killed for memory it repeats for ever).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from impress_format.errors import StorageError
from impress_format.records.training import Elsewhere
from impress_learn.engines.work import BankWork, Said, Steps, TorchSettings, said_of
from impress_learn.progress import Progress

Done = tuple[Any, Mapping[str, bytes], int, Said | None]
"""What an item gave, the files that it made by their paths in the bank, its steps, and what went wrong."""

_BANK = "bank.impress"
_CLEARS = (
    "import os, shutil, sys\n"
    "if os.fork(): os._exit(0)\n"  # no child of the worker's then: Ray ends those that it ends
    "sys.stdin.buffer.read()\n"
    "shutil.rmtree(sys.argv[1], ignore_errors=True)\n"
)
"""Waits until whoever started it has ended, however that was, and clears its folder."""


class BankCopy:
    """A worker's copy of a bank, and what it does there. It lives as long as the process.

    Args:
        work: of the command.
        files: of the bank, by their paths in it.
        settings: how torch computes here.
        recorded: what is other here than where the command was given, to be recorded; None for nothing.
        tell: told how many steps of an item were taken.
        remark: told what the work remarks.
        every: seconds between two calls of `tell`.

    Raises:
        StorageError: the copy cannot be written.
    """

    def __init__(
        self,
        work: BankWork[Any, Any],
        files: Mapping[str, bytes],
        settings: TorchSettings,
        recorded: Elsewhere | None,
        *,
        tell: Callable[[int], None],
        remark: Callable[[str], None],
        every: float,
    ) -> None:
        try:
            folder = Path(tempfile.mkdtemp(prefix="impress-worker-"))
            clear_at_end(folder)
            path = folder / _BANK
            for name, content in files.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)
        except OSError as error:
            raise StorageError(
                f"cannot write a copy of the bank to {tempfile.gettempdir()}: {error.strerror}"
            ) from error
        self._path, self._taken = path, 0
        self._steps = Steps(self._told, every)
        self._tell = tell
        self._work = work.elsewhere(path, settings, recorded)
        self._do = self._work.begin(Progress(step=self._steps.step, remark=remark))

    def do(self, item: Any) -> Done:
        """Do one item; the files that it made are taken out of the copy, also where it fails."""
        self._taken, result, failed = 0, None, None
        try:
            result = self._do(item)
        except Exception as error:
            failed = said_of(error)
        self._steps.tell()
        return result, self._take(item), self._taken, failed

    def _told(self, count: int) -> None:
        self._taken += count
        self._tell(self._taken)

    def _take(self, item: Any) -> dict[str, bytes]:
        made = [name for name in self._work.gives(item) if (self._path / name).exists()]
        taken = {name: (self._path / name).read_bytes() for name in made}
        for name in made:
            (self._path / name).unlink()
        return taken


def clear_at_end(folder: Path) -> None:
    """Have a folder removed when this process ends, also where it is killed."""
    ours, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CLEARS, str(folder)],
            stdin=ours,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    finally:
        os.close(ours)
    process.wait()  # only its child goes on; `theirs` stays open until this process ends
    _ = theirs


def worker_class() -> type:
    """The class of the actors. Of no module, so that it is sent whole: a node without impress can still say so."""

    class ImpressWorker:
        def __init__(self) -> None:
            self.copy: Any = None
            self.key: Any = None

        def greet(self, device: str) -> tuple[str, dict[str, str] | None, str]:
            """The name of this node, and what it computes with; or what it lacks."""
            import platform

            try:
                import msgspec

                from impress_learn.engines.machine import this_machine

                return platform.node(), msgspec.structs.asdict(this_machine(device)), ""
            except ImportError as error:
                return platform.node(), None, error.name or str(error)
            except Exception as error:
                return platform.node(), None, f"torch that runs ({type(error).__name__}: {error})"

        def begin(self, sent: Any, settings: Any, recorded: Any, listener: Any, every: float) -> Any:
            """Copy the bank and begin; what went wrong, if anything did."""
            from impress_learn.engines.ray_worker import BankCopy
            from impress_learn.engines.work import said_of

            try:
                work, files = sent
                self.copy = BankCopy(
                    work,
                    files,
                    settings,
                    recorded,
                    tell=lambda steps: listener.tell.remote(self.key, steps),
                    remark=listener.remark.remote,
                    every=every,
                )
            except Exception as error:
                return said_of(error)
            return None

        def do(self, key: Any, item: Any) -> Any:
            """Do one item, of which `key` says the number and how often it was begun."""
            self.key = key
            return self.copy.do(item)

    return ImpressWorker


def listener_class() -> type:
    """The class of the actor that hears of all steps and remarks."""

    class ImpressListener:
        def __init__(self) -> None:
            self.steps: dict[Any, int] = {}
            self.remarks: list[str] = []

        def tell(self, key: Any, steps: int) -> None:
            self.steps[key] = steps

        def remark(self, text: str) -> None:
            self.remarks.append(text)

        def take(self) -> Any:
            """What came since it was asked last."""
            told = self.steps, self.remarks
            self.steps, self.remarks = {}, []
            return told

    return ImpressListener
