"""kill -9 at file operations and at random moments: a bank is always whole, and the command takes up its work."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from commandline import contents
from commands import COMMANDS, Undisturbed, stored_tasks
from faulty import Ended, impress_with_faults

from impress_format import open_bank, verify_bank

SIGKILL = -9


def is_temporary(path: str) -> bool:
    return Path(path).name.startswith(".")


def check_what_is_left(world: Undisturbed, folder: Path) -> None:
    """Every file under its own name is one from before or one of the finished run, whole; nothing is lost."""
    left = {path: content for path, content in contents(folder).items() if not is_temporary(path)}
    for path, content in left.items():
        assert content in (world.before.get(path), world.after.get(path)), path
    assert set(world.before) - set(left) <= set(world.before) - set(world.after)
    found = stored_tasks(folder)
    assert all(content in world.tasks[name] for name, content in found.items())
    assert set(stored_tasks(world.folder)) <= set(found)
    bank = folder / "a.impress"
    if not (bank / "bank.json").exists():
        assert world.before == {}
        return
    opened = open_bank(bank)
    for name in opened.task_names():
        opened.read_task(name)
    assert {problem.error for problem in verify_bank(bank).problems} <= {"is missing"}


def check_it_completes(world: Undisturbed, folder: Path) -> None:
    again = impress_with_faults(*world.command, cwd=folder, links=world.links)
    assert again.code == 0, again.err
    assert contents(folder) == world.after


def kill_and_complete(world: Undisturbed, folder: Path, **fault: Any) -> Ended:
    world.fresh(folder)
    ended = impress_with_faults(*world.command, cwd=folder, links=world.links, **fault)
    check_what_is_left(world, folder)
    check_it_completes(world, folder)
    return ended


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_file_operations(name: str, every: bool, undisturbed: dict[str, Undisturbed], tmp_path: Path) -> None:
    world = undisturbed[name]
    assert len(world.operations) >= 6
    for at in range(1, len(world.operations) + 1) if every else world.places():
        ended = kill_and_complete(world, tmp_path / str(at), at=at)
        assert (ended.code, len(ended.operations)) == (SIGKILL, at), ended.err


@pytest.mark.parametrize("name", ["create", "add"])
def test_killed_at_file_operations_where_there_are_no_hard_links(name: str, tmp_path: Path) -> None:
    world = Undisturbed.run(tmp_path, name, links=False)
    assert "rename" in world.operations
    for at in world.places():
        ended = kill_and_complete(world, tmp_path / str(at), at=at)
        assert (ended.code, len(ended.operations)) == (SIGKILL, at), ended.err


@pytest.mark.slow
def test_killed_200_times_at_random_moments(undisturbed: dict[str, Undisturbed], tmp_path: Path) -> None:
    moments = random.Random(0)
    runs = killed = 0
    longest = {name: 1.1 * world.seconds for name, world in undisturbed.items()}
    while killed < 200:
        assert runs < 1000
        name = list(COMMANDS)[runs % len(COMMANDS)]
        after = moments.uniform(0.0, longest[name])
        ended = kill_and_complete(undisturbed[name], tmp_path / str(runs), kill_after_s=after).code != SIGKILL
        # The machine may be less busy than when the command was timed, or busier.
        longest[name] *= 0.9 if ended else 1.05
        killed += not ended
        runs += 1
    print(f"\n{killed} of {runs} runs were killed before they ended")
