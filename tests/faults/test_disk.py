"""A disk that says no, at each kind of file operation: one message, nothing lost, and the command completes later."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import contents
from commands import COMMANDS, Undisturbed
from faulty import impress_with_faults
from test_kills import check_it_completes, check_what_is_left


@pytest.mark.parametrize(
    ("name", "error"),
    [("create", "ENOSPC"), ("add", "EROFS"), ("update", "EIO"), ("extend", "ENOSPC"), ("pack", "ENOSPC")],
)
def test_an_error_at_each_kind_of_file_operation(
    name: str, error: str, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    world = undisturbed[name]
    for at in world.places():
        folder = world.fresh(tmp_path / str(at))
        ended = impress_with_faults(*world.command, cwd=folder, at=at, action=error)
        if world.operations[at - 1] in ("unlink", "mkdir"):
            # What could not be removed is a leftover, a folder that is there already is no failure.
            assert ended.code in (0, 1), ended.err
        else:
            assert ended.code == 1, (at, world.operations[at - 1], ended.err)
            assert len(ended.err.strip().splitlines()) <= 4, ended.err
        assert "Traceback" not in ended.err
        check_what_is_left(world, folder)
        check_it_completes(world, folder)


def test_a_disk_that_is_really_full(tmp_path: Path, undisturbed: dict[str, Undisturbed]) -> None:
    """On a file system of 8 KiB, a mask does not fit."""
    world = undisturbed["create"]
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size=8k tmpfs {small} && cd {small} && "
        f"{sys.executable} -m impress_cli {' '.join(world.command)}; echo $? > {tmp_path}/code; cp -r {small} {kept}"
    )
    tried = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", "true"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"no mount namespace here: {tried.stderr.decode().strip()}")
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if not kept.exists():
        pytest.skip(f"no tmpfs here: {done.stderr.strip()}")
    assert (tmp_path / "code").read_text().strip() == "1"
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    shutil.rmtree(small)
    check_what_is_left(world, kept)
    check_it_completes(world, kept)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_is_read_only(name: str, undisturbed: dict[str, Undisturbed], tmp_path: Path) -> None:
    world = undisturbed[name]
    folder = world.fresh(tmp_path / "here")
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        if _can_write(folder):
            pytest.skip("this user may write to read-only folders (root)")
        ended = impress_with_faults(*world.command, cwd=folder)
    finally:
        for path in folders:
            path.chmod(0o755)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert contents(folder) == world.before


def _can_write(folder: Path) -> bool:
    try:
        (folder / "probe").write_text("")
    except OSError:
        return False
    (folder / "probe").unlink()
    return True
