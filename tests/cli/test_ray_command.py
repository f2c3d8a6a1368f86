"""`--engine ray` over a cluster of two nodes of our own: the same files, and faults that only a cluster has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra ray is not installed")

TOKEN = "ab" * 32
MASKS = ["rotated-digits/0:180:60", "--epochs", "2"]
TASKS = ["rotated-digits/10:90:20", "--epochs", "2"]


def environment(**more: str | None) -> dict[str, str]:
    """Ray's own variables unset, and no token asked for: the user's home is left alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": "/tmp"}
    return {name: value for name, value in {**kept, **quiet, **more}.items() if value is not None}


@dataclass(frozen=True)
class Cluster:
    """A cluster, who runs it, and where its workers put temporary files."""

    address: str
    process: subprocess.Popen[str]
    folder: Path

    @staticmethod
    def start(folder: Path, **more: str) -> Cluster:
        """Two nodes on loopback."""
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("own_cluster.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "cluster.err").open("w"),
            text=True,
            env=environment(**more),
        )
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, (folder / "cluster.err").read_text()
        return Cluster(address, process, folder)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    started = Cluster.start(folder, IMPRESS_DATA=str(folder / "none"), TMPDIR=str(folder))
    yield started
    started.end()
    assert list(folder.glob("impress-worker-*")) == []


def impress(*words: str | Path, cwd: Path, **more: str | None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "impress_cli", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment(**more))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by one process."""
    folder = tmp_path_factory.mktemp("alone")
    for words in (["bank", "create", "a.impress", *MASKS], ["task", "add", "a.impress", *TASKS]):
        done = impress(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder / "a.impress"


def test_a_cluster_makes_the_files_that_one_process_makes(cluster: Cluster, alone: Path, tmp_path: Path) -> None:
    over_ray = [
        "--engine",
        "ray",
        "--ray-address",
        cluster.address,
        "--json",
        "--quiet",
    ]  # a busy machine is remarked on
    created = impress("bank", "create", "a.impress", *MASKS, *over_ray, cwd=tmp_path)
    assert created.returncode == 0, created.stderr
    assert (len(json.loads(created.stdout)["masks"]), created.stderr) == (3, "")
    added = impress("task", "add", "a.impress", *TASKS, *over_ray, cwd=tmp_path)
    assert (len(json.loads(added.stdout)["tasks"]), added.stderr) == (4, "")
    assert contents(tmp_path / "a.impress") == contents(alone)


def workers() -> list[int]:
    """Processes of workers that are at work, which Ray calls by the class of their actor."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cmdline").read_bytes().startswith(b"ray::ImpressWorker.do"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    assert callable(condition)
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def started(folder: Path, address: str) -> subprocess.Popen[str]:
    """A command that is at work for a while."""
    words = ["bank", "create", "a.impress", "rotated-digits/0:180:60", "--epochs", "60", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "impress_cli", *words, "--engine", "ray", "--ray-address", address],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no threads here
    )


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_stdout_stays_json(cluster: Cluster, tmp_path: Path) -> None:
    process = started(tmp_path, cluster.address)
    wait_for(workers, process)
    os.kill(workers()[0], signal.SIGKILL)
    said, remarks = process.communicate()
    assert process.returncode == 0, remarks
    assert len(json.loads(said)["masks"]) == 3
    assert "ended while it was at mask" in remarks
    assert remarks.count("\n") == 1
    again = impress("bank", "create", "b.impress", "rotated-digits/0:180:60", "--epochs", "60", cwd=tmp_path)
    assert again.returncode == 0
    assert contents(tmp_path / "a.impress") == contents(tmp_path / "b.impress")


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_worker_and_no_folder_of_one_outlives_the_command(
    cluster: Cluster, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    process = started(tmp_path, cluster.address)
    wait_for(workers, process)
    folders = list(cluster.folder.glob("impress-worker-*"))
    assert folders
    process.send_signal(sent)
    _, said = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in said
    while workers() or any(folder.exists() for folder in folders):
        time.sleep(0.05)
    left = contents(tmp_path / "a.impress")
    assert not [name for name in left if name.startswith("masks/") and "tmp" in name]


@pytest.mark.slow
def test_data_that_a_worker_has_not_got_are_missed_there(cluster: Cluster, mnist_dir: Path, tmp_path: Path) -> None:
    over_ray = ["--engine", "ray", "--ray-address", cluster.address]
    words = ["bank", "create", "a.impress", "rotated-mnist/0", "--epochs", "1", *over_ray]
    done = impress(*words, cwd=tmp_path, IMPRESS_DATA=str(mnist_dir))
    assert done.returncode == 1
    assert "error: on the worker " in done.stderr
    assert f"MNIST is not in {cluster.folder}/none" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--gpus-per-worker", "1"], "no node of the cluster has 1 CPU and 1 GPU for a worker (--threads, --gpus-per"),
        (["--threads", "2"], "no node of the cluster has 2 CPUs for a worker"),
    ],
)
def test_a_demand_that_no_node_meets(cluster: Cluster, tmp_path: Path, more: list[str], words: str) -> None:
    over_ray = ["--engine", "ray", "--ray-address", cluster.address, *more]
    done = impress("bank", "create", "a.impress", *MASKS, *over_ray, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token(tmp_path: Path) -> None:
    cluster = Cluster.start(tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    words = ["bank", "create", "a.impress", *MASKS, "--engine", "ray", "--ray-address", cluster.address]
    home = {"HOME": str(tmp_path)}
    for given in ({"RAY_AUTH_MODE": None}, {"RAY_AUTH_MODE": None, "RAY_AUTH_TOKEN": "cd" * 32}):
        refused = impress(*words, cwd=tmp_path, **home, **given)
        assert refused.returncode == 1
        assert f"error: {cluster.address} answers and lets nobody in" in refused.stderr
        assert "RAY_AUTH_MODE=token" in refused.stderr
        assert refused.stderr.count("\n") == 1, refused.stderr
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN)
    let_in = impress(*words, cwd=tmp_path, **home, RAY_AUTH_MODE=None)
    assert let_in.returncode == 0, let_in.stderr
    cluster.end()
