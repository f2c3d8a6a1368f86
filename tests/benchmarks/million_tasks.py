"""A bank of a million tasks: what finding, reading, adding, removing one takes, and listing and verifying all.

    python tests/benchmarks/million_tasks.py [TASKS]        1,000,000 if not given; about five minutes, 2 GB of memory

The masks are random and the coefficients synthetic, of real shape: ten masks of LeNet-300-100, int8.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from impress_format import Bank, open_bank, verify_bank
from impress_format.disk.files import make_folder, write_atomically
from impress_format.limits import MAX_PACKED
from impress_format.operations.pack import pack_tasks
from impress_format.parts.numbers import store
from impress_format.parts.table import stored_parts
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.file import seal_parts
from impress_format.tasks.pack_seal import seal_pack
from impress_format.tasks.record import TaskRecord
from impress_format.tasks.seal import digest_of_task
from impress_format.tasks.sizes import bytes_on_disk
from impress_format.tasks.store import PACKS
from impress_format.tasks.text import write_text

MASKS, COLUMNS, TRIALS = 10, 3, 100


def record(bank: Bank, key: int) -> TaskRecord:
    fit = TaskTrainingRecord(epochs=3, lr=0.03)
    accuracy = 0.9 + key % 1000 / 10_000
    task = f"permuted-mnist/{key}"
    name = task.replace("/", "-")
    return TaskRecord(
        name=name, task=task, basis=bank.basis_digest(MASKS), accuracy=accuracy, train_accuracy=accuracy, fit=fit
    )


def fill(bank: Bank, tasks: int) -> None:
    """Write packs as `pack_tasks` does, without a million loose files before."""
    numbers = np.random.default_rng(0).standard_normal((tasks, MASKS, COLUMNS), dtype=np.float32) * np.float32(0.3)
    make_folder(bank.path / PACKS)
    keys = sorted(range(tasks), key=lambda key: f"permuted-mnist-{key}".encode())
    for start in range(0, tasks, MAX_PACKED):
        chosen = keys[start : start + MAX_PACKED]
        texts = [write_text(record(bank, key)) for key in chosen]
        alpha = np.stack([store(numbers[key], "int8") for key in chosen])
        files = (seal_parts(bank.path, text, {"alpha": row}) for text, row in zip(texts, alpha, strict=True))
        digests = np.frombuffer(b"".join(map(digest_of_task, files)), dtype=np.uint8).reshape(-1, 16)
        name, content = seal_pack(texts, digests, {"alpha": alpha}, short=True)
        write_atomically(bank.path / PACKS / name, content, replace=True)


def each(what: str, calls: list[Callable[[], object]]) -> None:
    took = []
    for call in calls:
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    print(f"{what:32} median {1e3 * statistics.median(took):8.2f} ms   most {1e3 * max(took):8.2f} ms", flush=True)


def once(what: str, call: Callable[[], object]) -> None:
    started = time.perf_counter()
    call()
    print(f"{what:32} {time.perf_counter() - started:8.2f} s", flush=True)


def open_and_read(path: Path, name: str) -> None:
    open_bank(path).read_task(name)


def silently(*words: str) -> None:
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "million.impress"
        impress = [sys.executable, "-m", "impress_cli"]
        create = ["bank", "create", path, "rotated-digits/0", "--masks-per-task", "0", "--random-masks", str(MASKS)]
        silently(*impress, *map(str, create), "--quiet")
        bank = open_bank(path)
        fill(bank, tasks)
        size = bytes_on_disk(bank.tasks)
        print(f"{tasks:,} tasks of {MASKS * COLUMNS} coefficients, int8: {size:,} B, {size / tasks:.1f} B a task")

        some = np.random.default_rng(1).integers(0, tasks, TRIALS).tolist()
        names = [f"permuted-mnist-{key}" for key in some]
        references = [f"permuted-mnist/{key}" for key in some]
        alpha = store(np.ones((MASKS, COLUMNS), dtype=np.float32), "int8")
        new = [record(bank, tasks + key) for key in range(TRIALS)]
        each("open the bank, read one", [partial(open_and_read, path, name) for name in names])
        each("find by name", [partial(bank.find_task, name) for name in names])
        each("find by reference", [partial(bank.find_task, reference) for reference in references])
        each("read", [partial(bank.read_task, name) for name in names])
        each("add", [partial(bank.write_task, one, stored_parts(alpha=alpha)) for one in new])
        each("remove", [partial(bank.remove_task, name) for name in dict.fromkeys(names)])
        once("list, in Python", bank.summarise_tasks)
        once("names, in Python", bank.task_names)
        for command in (("task", "list", "--json"), ("task", "list"), ("stats",)):
            once(f"impress {' '.join(command)}", partial(silently, *impress, *command, str(path)))
        page = [*impress, "report", str(path), str(Path(folder) / "page.html")]
        once("impress report", partial(silently, *page))
        once("verify", lambda: verify_bank(path).ok or sys.exit("does not verify"))
        once("pack again", lambda: pack_tasks(bank))
        print(f"tasks now: {len(bank.task_names()):,}, verified: {verify_bank(path).ok}")


if __name__ == "__main__":
    main()
