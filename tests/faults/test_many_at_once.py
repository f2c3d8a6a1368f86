"""Many processes and one bank: no task is lost, none is torn, a name is given once."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from commands import Undisturbed
from forked import Ran, the_server

from impress_format import open_bank, verify_bank

FIT = ("--epochs", "1", "--shots", "1", "--quiet")


def add_at_once(pool: ThreadPoolExecutor, folder: Path, *additions: tuple[str, ...]) -> Future[list[Ran]]:
    """`task add`, one process for each of `additions`, all at the same time."""
    commands = [("task", "add", "a.impress", *arguments, *FIT) for arguments in additions]
    return pool.submit(the_server().run_at_once, commands, cwd=folder, env=dict(os.environ))


def test_eight_processes_add_25_tasks_each(undisturbed: dict[str, Undisturbed], tmp_path: Path) -> None:
    folder = undisturbed["add"].fresh(tmp_path / "here")
    slices = [(f"rotated-digits/{25 * number}:{25 * (number + 1)}",) for number in range(8)]
    bank = open_bank(folder / "a.impress")
    with ThreadPoolExecutor(1) as pool:
        running = add_at_once(pool, folder, *slices)
        while not running.done():
            for name in bank.task_names():  # reading beside eight writers never finds half a task
                bank.read_task(name)
            time.sleep(0.1)  # leave the cores to the writers
    ran = running.result()
    assert [code for code, _, _ in ran] == [0] * 8, ran
    assert set(bank.task_names()) == {f"rotated-digits-{key}" for key in range(200)}
    assert verify_bank(bank.path).ok
    assert [path for path in (bank.path / "tasks").iterdir() if path.name.startswith(".")] == []


def test_one_name_is_given_to_one_of_two_processes(undisturbed: dict[str, Undisturbed], tmp_path: Path) -> None:
    folder = undisturbed["add"].fresh(tmp_path / "here")
    with ThreadPoolExecutor(1) as pool:
        ran = add_at_once(pool, folder, *((f"rotated-digits/{key}", "--name", "same") for key in (1, 2))).result()
    assert sorted(code for code, _, _ in ran) == [0, 2], ran
    assert "has same already" in "".join(err for _, _, err in ran)
    assert verify_bank(folder / "a.impress").ok
    winner = 1 if ran[0][0] == 0 else 2
    assert open_bank(folder / "a.impress").read_task("same")[0].task == f"rotated-digits/{winner}"
