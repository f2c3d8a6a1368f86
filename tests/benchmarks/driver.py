"""What one command takes for a finished task that a worker sends: it is checked and stored; nothing is trained.

    python tests/benchmarks/driver.py [TASKS]

Ray is stood in for: each call of a worker is answered at once, with the file of one task under another name.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import impress_learn.engines.ray_driver
from impress_format.bank import open_bank
from impress_format.records.training import Elsewhere
from impress_format.tasks.file import rename_task
from impress_learn import MaskTraining, Progress, TaskTraining, Workers, add_tasks, create_bank
from impress_learn.engines.machine import this_machine
from impress_learn.engines.work import TorchSettings
from impress_learn.jobs.scattered import TaskWork, receive_tasks
from impress_learn.parts.table import Parts
from impress_learn.plan.asked_tasks import AskedTasks, plan_requests

WORKERS = 1_000


def answered_at_once(make: Any) -> Any:
    """As much of Ray as the driver uses.

    Args:
        make: an item -> its files.
    """
    machine: Elsewhere = this_machine("cpu")
    has = {name: getattr(machine, name) for name in Elsewhere.__struct_fields__}
    answers: dict[str, Any] = {
        "greet": lambda device: ("node", has, ""),
        "begin": lambda *_: None,
        "do": lambda key, item: (None, make(item), 1, None),
        "take": lambda: ({}, []),
    }

    class Answer:
        def __init__(self, value: Any) -> None:
            self.value = value

    class Actor:
        def __getattr__(self, name: str) -> Any:
            return SimpleNamespace(remote=lambda *given: Answer(answers[name](*given)))

    def wait(refs: list[Any], num_returns: int, timeout: float) -> Any:
        return refs[:num_returns], refs[num_returns:]

    class Never(Exception):
        pass

    return SimpleNamespace(
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": float(WORKERS)}}],
        put=lambda value: value,
        remote=lambda **_: lambda kind: SimpleNamespace(remote=Actor),
        wait=wait,
        get=lambda ref, timeout=None: ref.value,
        kill=lambda actor: None,
        exceptions=SimpleNamespace(RayError=Never, RayTaskError=Never, RuntimeEnvSetupError=Never),
    )


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank.impress"
        create_bank(path, ["permuted-digits/0:10:1"], fit=MaskTraining(epochs=1))
        (one,) = add_tasks(path, ["permuted-digits/10"], fit=TaskTraining(epochs=1))
        bank = open_bank(path)
        source, content = bank.task_path(one.name), bank.task_bytes(one.name)
        names = [f"task-{number}" for number in range(tasks)]
        asked = AskedTasks(("permuted-digits/10",), TaskTraining(epochs=1), None, Parts(), None, None)
        (request,) = plan_requests(bank, asked, Progress())
        work = TaskWork(path, asked, TorchSettings("cpu"), with_tasks=False)
        requests = [replace(request, name=name) for name in names]
        files = {name: rename_task(source, content, name, 2) for name in names}
        ray = answered_at_once(lambda item: {f"tasks/{name}.safetensors": files[name] for name in item})

        @contextmanager
        def there(address: str | None) -> Any:
            yield ray

        started, spans = time.perf_counter(), []
        with patch.object(impress_learn.engines.ray_driver, "connected", there):
            results = impress_learn.engines.ray_driver.scatter_over_ray(
                work,
                [(name,) for name in names],
                receive=receive_tasks(bank, requests),
                workers=Workers(WORKERS, engine="ray"),
                progress=Progress(),
            )
            for number, _ in enumerate(results, 1):
                if number % max(1, tasks // 5) == 0:
                    spans.append(time.perf_counter() - started)
        print(f"{tasks:,} finished tasks of {len(content)} bytes, {WORKERS:,} workers: {spans[-1]:.1f} s, "
              f"{1e3 * spans[-1] / tasks:.2f} ms a task")  # fmt: skip
        fifths = [after - before for before, after in zip([0.0, *spans], spans, strict=False)]
        print("the fifths of it:", ", ".join(f"{fifth:.1f} s" for fifth in fifths))


if __name__ == "__main__":
    main()
