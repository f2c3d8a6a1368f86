"""What is printed: text of others is never obeyed, every stream takes every text, and numbers are never cut."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Impress, contents, run

LONG = "a-name-of-sixty-six-characters-0123456789-0123456789-0123456789-abc"


@pytest.fixture
def long_named(impress: Impress, bank: Path) -> Path:
    """A bank with a task whose name is longer than most terminals leave room for."""
    (bank / "tasks" / "rotated-digits-180.safetensors").unlink()
    done = impress("task", "add", bank, "rotated-digits/9", "--name", LONG, "--epochs", 1, "--shots", 2)
    assert done.code == 0, done.err
    return bank


# Markup


@pytest.mark.parametrize("name", ["run[/v2]x.impress", "a[bold]b.impress", "x:100:y[link=file:etc].impress"])
def test_a_folder_whose_name_looks_like_markup_is_shown_as_it_is(impress: Impress, bank: Path, name: str) -> None:
    named = bank.parent / name
    named.parent.mkdir(exist_ok=True)
    bank.rename(named)
    for command in (("bank", "show"), ("task", "list"), ("stats",), ("eval",), ("bank", "verify")):
        done = impress(*command, named)
        assert done.code == 0, done.err
        assert name in done.out
        assert "💯" not in done.out
    assert f"{name} has no task 'nothing'" in impress("eval", named, "nothing").err


def test_an_error_shows_a_slice_and_no_emoji(impress: Impress) -> None:
    done = impress("bank", "create", "new.impress", "rotated-digits/0:100:0")
    assert "0:100:0" in done.err


def test_what_a_terminal_would_obey_is_shown_as_its_code(impress: Impress, bank: Path) -> None:
    named = bank.rename(bank.with_name("clear\x1b[2J\nnew.impress"))
    done = impress("bank", "show", named)
    assert done.code == 0
    assert "\x1b" not in done.out
    assert r"clear\x1b[2J\nnew.impress" in done.out.splitlines()[0]


# Encodings and closed streams


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_every_encoding_takes_every_text(impress: Impress, bank: Path, encoding: str) -> None:
    odd = Path(shutil.move(bank, os.fsdecode(os.fsencode(bank.parent) + b"/caf\xe9-\xe2\x80\x94.impress")))
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "impress_cli", "bank", "show", odd, "--quiet"],
        env={**os.environ, **env}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"caf" in done.stdout
    for command in (("eval", "--wrong-mask"), ("stats",)):
        forked = impress(*command, odd, "--quiet", env=env)
        assert (forked.code, forked.err) == (0, "")
        assert "caf" in forked.out
    missing = subprocess.run(
        [sys.executable, "-m", "impress_cli", "bank", "show", f"{odd}-not"],
        env={**os.environ, **env}, capture_output=True, check=False,
    )  # fmt: skip
    assert missing.returncode == 2
    assert b"Traceback" not in missing.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_closed_stream_stops_nothing_and_its_number_goes_to_no_file(bank: Path, closed: str) -> None:
    add = f"task add a.impress rotated-digits/9 --epochs 1 --shots 2 {closed}"
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m impress_cli {add}"], cwd=bank.parent, capture_output=True, check=False
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert run("bank", "verify", bank, cwd=bank.parent).code == 0


def test_a_full_disk_under_the_output_is_one_line(bank: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "impress_cli", "bank", "show", bank],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == "error: cannot write the output: No space left on device"


# Width


@pytest.mark.parametrize("command", [("eval",), ("task", "list")])
def test_in_a_pipe_a_table_is_as_wide_as_it_needs(impress: Impress, long_named: Path, command: tuple[str, ...]) -> None:
    rows = [line for line in impress(*command, long_named).out.splitlines() if LONG in line]
    assert len(rows) == 1
    assert rows[0].rstrip().endswith("%")


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_on_a_terminal_text_folds_and_numbers_are_whole(long_named: Path, columns: int) -> None:
    code, out = in_terminal("task", "list", long_named, columns=columns)
    lines = out.replace("\r", "").splitlines()
    assert code == 0
    accuracy = next(line for line in lines if line.rstrip().endswith("%") and LONG[:8] in line)
    assert " B " in accuracy
    assert LONG in "".join(line.strip().split("   ")[0].strip() for line in lines[3:])
    assert max(map(len, lines[1:])) <= max(columns, 76)


def test_columns_narrow_a_pipe_too(impress: Impress, long_named: Path) -> None:
    lines = impress("task", "list", long_named, env={"COLUMNS": "80"}).out.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert sum(line.rstrip().endswith("%") for line in lines) == 3


def test_a_title_is_a_line_of_its_own(impress: Impress, bank: Path) -> None:
    title = impress("bank", "show", bank, env={"COLUMNS": "60"}).out.splitlines()[0]
    assert title.startswith(str(bank))
    assert "digest" in title


def test_one_task_is_no_tasks(impress: Impress, bank: Path) -> None:
    assert impress("task", "remove", bank, "rotated-digits-180", "rotated-digits-300").code == 0
    said = impress("task", "list", bank).out + impress("stats", bank).out + impress("bank", "show", bank).out
    assert "1 task\n" in said
    assert "1 tasks" not in said
    assert "1 files" not in said


def in_terminal(*arguments: object, columns: int) -> tuple[int, str]:
    """Run `impress` with a terminal of so many columns as its stdout."""
    import fcntl
    import struct
    import termios

    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "impress_cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=subprocess.DEVNULL,
        env={**environment, "NO_COLOR": "1", "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    out = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        out += piece
    os.close(main)
    return process.wait(), out.decode()


def test_nothing_of_the_bank_changes_by_being_shown(impress: Impress, bank: Path) -> None:
    before = contents(bank)
    for command in (("bank", "show"), ("task", "list"), ("stats",), ("bank", "verify")):
        impress(*command, bank)
    assert contents(bank) == before
