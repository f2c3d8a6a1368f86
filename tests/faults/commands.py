"""The commands that write to a bank, each small, and what they leave when nothing disturbs them."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from commandline import contents
from faulty import impress_with_faults

from impress_format import open_bank

_CREATE = ("bank", "create", "a.impress", "rotated-digits/0", "--epochs", "1", "--random-masks", "1")
_ADD = ("task", "add", "a.impress", "rotated-digits/30:90:30", "--epochs", "1", "--shots", "2")
_EXTEND = ("bank", "extend", "a.impress", "rotated-digits/90", "--epochs", "1")
_UPDATE = ("task", "update", "a.impress", "rotated-digits-30", "rotated-digits/35", "--epochs", "1", "--shots", "2")

_PACK = ("bank", "pack", "a.impress")
_ADD_MORE = ("task", "add", "a.impress", "rotated-digits/10", "--epochs", "1", "--shots", "2", "--alpha-dtype", "int8")
_REMOVE = ("task", "remove", "a.impress", "rotated-digits-60")
_ADD_ANEW = ("task", "add", "a.impress", "rotated-digits/60", "--epochs", "1", "--shots", "3")

COMMANDS = {
    # name: what must be there before, the command
    "create": ((), _CREATE),
    "extend": ((_CREATE, _ADD), _EXTEND),
    "add": ((_CREATE,), _ADD),
    "update": ((_CREATE, _ADD), _UPDATE),
    # of a pack, of which one task was updated, one removed, one removed and added anew, and one more added beside it
    "pack": (
        (
            _CREATE,
            _ADD,
            (*_ADD_ANEW[:3], "rotated-digits/80", *_ADD_ANEW[4:]),
            _PACK,
            _UPDATE,
            _REMOVE,
            _ADD_ANEW,
            ("task", "remove", "a.impress", "rotated-digits-80"),
            _ADD_MORE,
        ),
        _PACK,
    ),
}


def stored_tasks(folder: Path) -> dict[str, bytes]:
    """Every task of the bank in `folder`, in the bytes of its own file, loose or packed."""
    if not (folder / "a.impress" / "bank.json").exists():
        return {}
    bank = open_bank(folder / "a.impress")
    stored = {name: bank.tasks.read(name) for name in bank.task_names()}
    return {name: found[1] for name, found in stored.items() if found is not None}


@dataclass(frozen=True)
class Undisturbed:
    """One command's world: `before` in a folder, `after` as contents, its file operations and its seconds.

    `tasks` are what each task may be at any time: as it was before, or as it is after.
    """

    folder: Path
    command: tuple[str, ...]
    before: dict[str, bytes]
    after: dict[str, bytes]
    tasks: dict[str, set[bytes]]
    operations: tuple[str, ...]
    seconds: float
    links: bool = True

    @staticmethod
    def run(folder: Path, name: str, *, links: bool = True) -> Undisturbed:
        earlier, command = COMMANDS[name]
        start, whole = folder / "start", folder / "whole"
        start.mkdir()
        for step in earlier:
            done = impress_with_faults(*step, cwd=start, links=links)
            assert done.code == 0, done.err
        shutil.copytree(start, whole)
        started = time.monotonic()
        done = impress_with_faults(*command, cwd=whole, links=links)
        assert done.code == 0, done.err
        seconds = time.monotonic() - started
        tasks: dict[str, set[bytes]] = {}
        for bank in (start, whole):
            for task, content in stored_tasks(bank).items():
                tasks.setdefault(task, set()).add(content)
        return Undisturbed(start, command, contents(start), contents(whole), tasks, done.operations, seconds, links)

    def places(self) -> list[int]:
        """Numbers of the first and the last operation of each kind: each way to stop, at little cost."""
        kinds = list(self.operations)
        first = {kinds.index(kind) + 1 for kind in kinds}
        return sorted(first | {len(kinds) - kinds[::-1].index(kind) for kind in kinds})

    def fresh(self, folder: Path) -> Path:
        """A folder in the state before the command."""
        return Path(shutil.copytree(self.folder, folder))
