"""Ctrl-C and kill: the bank goes on where it stopped, to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import CREATE, contents, run

STOPS_BEFORE_THE_THIRD = """
import pathlib, signal, sys
from impress_cli.app import main
from impress_format import Bank
write = Bank.write_mask
def waiting(bank, index, *rest, **named):
    if index == 2:
        pathlib.Path("trained").touch()
        while True:
            signal.pause()
    write(bank, index, *rest, **named)
Bank.write_mask = waiting
main()
"""
"""`impress`, whose third mask is trained and not stored until a signal comes."""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_create_goes_on_to_the_same_bytes(
    trained: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-c", STOPS_BEFORE_THE_THIRD, "bank", "create", "b.impress", *CREATE]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs us in the background has SIGINT ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no threads here
    )
    while not (tmp_path / "trained").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    os.kill(process.pid, sent)
    _, said = process.communicate()
    assert process.returncode == code
    if sent is signal.SIGINT:
        assert "interrupted" in said
        assert "Traceback" not in said
    finished = contents(tmp_path / "b.impress")
    assert [name for name in finished if name.startswith("masks/")] == [
        "masks/00000.safetensors",
        "masks/00001.safetensors",
    ]

    assert run("bank", "verify", "b.impress", cwd=tmp_path).code == 1
    resumed = run("bank", "create", "b.impress", *CREATE, cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert "training the rest" in resumed.err

    undisturbed = {name: bytes_ for name, bytes_ in contents(trained).items() if not name.startswith("tasks/")}
    assert contents(tmp_path / "b.impress") == undisturbed
    assert run("bank", "verify", "b.impress", cwd=tmp_path).code == 0


def children_of(pid: int) -> set[int]:
    """Of a process, and theirs."""
    try:
        direct = {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()
    return direct.union(*map(children_of, direct))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_worker_outlives_the_command_and_what_is_missing_is_trained_by_the_next(
    trained: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    given = [*CREATE, "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "impress_cli", "bank", "create", "b.impress", *given],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no threads here
    )
    while not list((tmp_path / "b.impress").glob("masks/*.safetensors")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    workers = children_of(process.pid)
    assert len(workers) >= 2
    os.killpg(process.pid, sent) if sent is signal.SIGINT else os.kill(process.pid, sent)
    _, said = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in said
    for worker in workers:
        while is_running(worker):  # those of a command that was killed notice it by themselves
            time.sleep(0.01)
    resumed = run("bank", "create", "b.impress", *given, cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    undisturbed = {name: bytes_ for name, bytes_ in contents(trained).items() if not name.startswith("tasks/")}
    assert contents(tmp_path / "b.impress") == undisturbed


def test_a_task_slice_cut_short_goes_on_with_what_is_missing(bank: Path) -> None:
    whole = contents(bank)
    (bank / "tasks" / "rotated-digits-180.safetensors").unlink()
    again = run("task", "add", bank, "rotated-digits/60:360:120", "--epochs", "5", cwd=bank.parent)
    assert again.code == 0, again.err
    assert contents(bank) == whole


def test_two_creates_of_one_bank_at_once_do_not_train_the_same_masks(bank: Path) -> None:
    from impress_format.disk.locks import exclusive

    with exclusive(bank, wait=False):
        second = run("bank", "create", bank, *CREATE, cwd=bank.parent)
    assert second.code == 1
    assert "another process" in second.err


def test_a_closed_pipe_ends_the_command_quietly(bank: Path) -> None:
    command = f"{sys.executable} -m impress_cli task show {bank} rotated-digits-60 --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr
