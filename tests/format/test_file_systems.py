"""File systems that cannot do everything: no hard links, no renameat2, no flock, no fsync of a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from impress_format.disk import files
from impress_format.disk.files import write_atomically
from impress_format.disk.locks import exclusive, hold
from impress_format.disk.regular_file import machine_tag
from impress_format.errors import StorageError


def refuse(code: int) -> Callable[..., None]:
    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refused


@pytest.fixture(params=["renameat2", "lock and rename"])
def without_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    if request.param == "lock and rename":
        monkeypatch.setattr(files, "_rename_no_replace", refuse(errno.EINVAL))
    return str(request.param)


@pytest.mark.usefixtures("without_links")
def test_without_hard_links_a_new_file_is_written_and_a_taken_name_kept(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x", b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "x", b"second", replace=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x": b"first"}


WRITE_ALL = """
import errno, os, sys
from pathlib import Path
from impress_format.disk import files
def refuse(*_): raise OSError(errno.EPERM, "no links here")
os.link = refuse
if sys.argv[1] == "lock and rename": files._rename_no_replace = refuse
won = 0
for number in range(60):
    try:
        files.write_atomically(Path(f"{number}"), sys.argv[2].encode() * 1000, replace=False)
        won += 1
    except FileExistsError:
        pass
print(won)
"""


@pytest.mark.parametrize("way", ["renameat2", "lock and rename"])
def test_without_hard_links_each_name_is_given_once_among_processes(tmp_path: Path, way: str) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE_ALL, way, letter], cwd=tmp_path, stdout=subprocess.PIPE)
        for letter in "abcd"
    ]
    won = [int(writer.communicate()[0]) for writer in writers]
    assert sum(won) == 60
    contents = [(tmp_path / str(number)).read_bytes() for number in range(60)]
    assert all(len(content) == 1000 and len(set(content)) == 1 for content in contents)
    assert [sum(content[:1] == letter for content in contents) for letter in (b"a", b"b", b"c", b"d")] == won
    assert len(list(tmp_path.iterdir())) == 60


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_folder_that_cannot_be_synced_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    sync = os.fsync

    def only_files(descriptor: int) -> None:
        refuse(code)() if os.path.isdir(f"/proc/self/fd/{descriptor}") else sync(descriptor)  # noqa: PTH112

    monkeypatch.setattr(os, "fsync", only_files)
    write_atomically(tmp_path / "x", b"new", replace=True)
    assert (tmp_path / "x").read_bytes() == b"new"


def test_an_error_after_the_file_has_its_name_does_not_say_that_the_old_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_sync_folder", refuse(errno.EIO))
    with pytest.raises(StorageError, match="It is written, but may not outlast a power cut"):
        write_atomically(tmp_path / "x", b"new", replace=True)
    assert (tmp_path / "x").read_bytes() == b"new"


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP], ids=errno.errorcode.get)
def without_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refuse(request.param))


@pytest.mark.usefixtures("without_flock")
def test_without_flock_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path, wait=False),
        pytest.raises(StorageError, match="another process"),
        exclusive(tmp_path, wait=False),
    ):
        pass
    with exclusive(tmp_path, wait=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.usefixtures("without_flock")
def test_without_flock_the_claim_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    claim = tmp_path / ".lock.claim"
    claim.write_text(f"{machine_tag()} {dead.pid} 00")
    with exclusive(tmp_path, wait=False):
        assert claim.read_text().split()[1] == str(os.getpid())
    claim.write_text(f"{'0' * 8} {dead.pid} 00")  # of another machine: nobody here can tell
    with pytest.raises(StorageError), exclusive(tmp_path, wait=False):
        pass


COUNT = """
import errno, fcntl, os, sys
from pathlib import Path
from impress_format.disk.locks import exclusive
def refuse(*_): raise OSError(errno.ENOLCK, "no locks here")
fcntl.flock = refuse
for _ in range(50):
    with exclusive(Path("."), wait=True):
        Path("count").write_text(str(int(Path("count").read_text()) + 1))
"""


def test_without_flock_no_two_processes_are_inside_at_once(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    counters = [subprocess.Popen([sys.executable, "-c", COUNT], cwd=tmp_path) for _ in range(4)]
    assert [counter.wait() for counter in counters] == [0] * 4
    assert (tmp_path / "count").read_text() == "200"


def test_a_lock_of_one_name_is_taken_away_again_and_still_excludes(tmp_path: Path) -> None:
    lock = tmp_path / ".one.lock"
    for _ in range(2):
        with hold(lock, wait=False, busy="busy", remove=True):
            assert lock.exists()
            with pytest.raises(StorageError, match="busy"), hold(lock, wait=False, busy="busy"):
                pass
        assert not lock.exists()
