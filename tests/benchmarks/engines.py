"""Tasks a minute: in one process, in processes of this machine, and on a Ray cluster of as many nodes, in turns.

    python tests/benchmarks/engines.py [ROUNDS]

Each is timed with few and with more tasks; what more of them take is what a task takes, and the rest is the start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import torch

from impress_learn import MaskTraining, TaskTraining, Workers, add_tasks, create_bank

FEW, MANY = 8, 24
"""Tasks, each learned alone: they are fewer than those that are learned together."""
FIT = TaskTraining(epochs=30)
CLUSTER = Path(__file__).parents[1] / "cli" / "own_cluster.py"


@contextmanager
def own_cluster() -> Iterator[str]:
    """The address of a cluster of two nodes of one CPU each."""
    process = subprocess.Popen(
        [sys.executable, str(CLUSTER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.stdin.close()
    process.wait()


def seconds(bank: Path, tasks: int, device: Workers | None) -> float:
    """Of adding so many tasks to a bank; they are taken out again."""
    started = time.perf_counter()
    added = add_tasks(bank, [f"rotated-digits/{angle}" for angle in range(1, 1 + tasks)], fit=FIT, device=device)
    taken = time.perf_counter() - started
    for one in added:
        (bank / "tasks" / f"{one.name}.safetensors").unlink()
    return taken


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder, own_cluster() as address:
        bank = Path(folder) / "bank.impress"
        create_bank(bank, ["rotated-digits/0:360:36"], fit=MaskTraining(epochs=3))
        engines: dict[str, Workers | None] = {
            "this process": None,
            "1 worker over Ray": Workers(1, engine="ray", ray_address=address),
            "2 workers": Workers(2),
            "2 workers over Ray": Workers(2, engine="ray", ray_address=address),
        }
        seconds(bank, 1, None)
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, device in engines.items():
                took[name].append((seconds(bank, FEW, device), seconds(bank, MANY, device)))
    print(f"rotated-digits, 10 masks, {FIT.epochs} epochs, medians of {rounds}, torch {torch.__version__}, "
          f"{os.cpu_count()} cores\n")  # fmt: skip
    print(f"{'':20}{'tasks/min':>11}{'against one':>13}{'s a task':>10}{'start s':>9}")
    alone = 0.0
    for name, pairs in took.items():
        each = median((many - few) / (MANY - FEW) for few, many in pairs)
        start = median(few - FEW * each for few, _ in pairs)
        alone = alone or each
        print(f"{name:20}{60 / each:11.0f}{alone / each:13.2f}{each:10.3f}{start:9.1f}")


if __name__ == "__main__":
    main()
