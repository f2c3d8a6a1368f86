"""Many processes and one bank: no task is lost, none is torn, a name is given once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from commands import Undisturbed

from impress_format import open_bank, verify_bank

FIT = ("--epochs", "1", "--shots", "1", "--quiet")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "impress_cli", "task", "add", "a.impress", *arguments, *FIT]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_eight_processes_add_25_tasks_each(undisturbed: dict[str, Undisturbed], tmp_path: Path) -> None:
    folder = undisturbed["add"].fresh(tmp_path / "here")
    processes = [start(folder, f"rotated-digits/{25 * number}:{25 * (number + 1)}") for number in range(8)]
    bank = open_bank(folder / "a.impress")
    while any(process.poll() is None for process in processes):
        for name in bank.task_names():  # reading beside eight writers never finds half a task
            bank.read_task(name)
        time.sleep(0.1)  # leave the cores to the writers
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, said
    assert set(bank.task_names()) == {f"rotated-digits-{key}" for key in range(200)}
    assert verify_bank(bank.path).ok
    assert [path for path in (bank.path / "tasks").iterdir() if path.name.startswith(".")] == []


def test_one_name_is_given_to_one_of_two_processes(undisturbed: dict[str, Undisturbed], tmp_path: Path) -> None:
    folder = undisturbed["add"].fresh(tmp_path / "here")
    processes = [start(folder, f"rotated-digits/{key}", "--name", "same") for key in (1, 2)]
    said = [process.communicate()[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], said
    assert "has same already" in "".join(said)
    assert verify_bank(folder / "a.impress").ok
    winner = 1 if processes[0].returncode == 0 else 2
    assert open_bank(folder / "a.impress").read_task("same")[0].task == f"rotated-digits/{winner}"
