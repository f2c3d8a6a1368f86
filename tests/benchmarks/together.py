"""Many tasks by one command beside each by itself: CPU seconds a task, and accuracy on test images, in one run.

    python tests/benchmarks/together.py BANK REF --data-dir DIR [--every 8]        # rotated-mnist/0:360:1

BANK is copied, and tasks that it has are left out. Every so many tasks are learned by themselves too, in turns with
the others: between two groups that are learned together.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from impress_format import open_bank
from impress_learn import Parts, TaskTraining, add_tasks
from impress_learn.parts.table import settle
from impress_learn.plan.groups import group_tasks
from impress_learn.plan.tasks import request_tasks
from impress_learn.streams.reference import parse_references
from impress_learn.tasks.added import AddedTask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path)
    parser.add_argument("reference")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--holdout", type=float, default=0.0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    fit = TaskTraining(holdout=chosen.holdout)
    with tempfile.TemporaryDirectory() as folder:
        together, alone = Path(folder) / "together.impress", Path(folder) / "alone.impress"
        for path in (together, alone):
            shutil.copytree(chosen.bank, path, ignore=shutil.ignore_patterns("tasks", "packs"))
        bank = open_bank(together)
        references = parse_references([chosen.reference])
        parts = settle(bank, Parts())
        requests = request_tasks(references, fit, name=None, parts=parts, data_dir=chosen.data_dir)
        groups, rest = group_tasks(bank, requests)
        if rest:
            raise SystemExit(f"{len(rest)} of {len(requests)} tasks are not learned together")
        spent = {"together": 0.0, "alone": 0.0}
        found: dict[str, list[AddedTask]] = {"together": [], "alone": []}

        def learn(way: str, path: Path, some: Sequence[str]) -> None:
            started = time.process_time()
            found[way] += add_tasks(path, some, fit=fit, data_dir=chosen.data_dir)
            spent[way] += time.process_time() - started

        for group in groups:
            names = sorted(int(one.reference.key) for one in group.all)
            stream = references[0].stream.name
            learn("together", together, [f"{stream}/{key}" for key in names])
            learn("alone", alone, [f"{stream}/{key}" for key in names if key % chosen.every == 0])
            print(f"{len(found['together'])} of {len(requests)}", flush=True)
        fits = [open_bank(together).read_task_record(one.name).fit for one in found["together"]]
        steps = [fit.steps for fit in fits if fit is not None]
    by_task = {one.task: one.accuracy for one in found["together"]}
    same = [by_task[one.task] for one in found["alone"]]
    each = {way: spent[way] / len(found[way]) for way in spent}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    mean = 100 * sum(by_task.values()) / len(steps)
    print(
        f"one thread, {most:,.0f} MB at the most; begun from 1/K: {steps.count(0)} of {len(steps)}; mean {mean:.2f}\n"
    )
    print("| | tasks | CPU seconds each | beside alone | accuracy of those learned both ways | least |")
    print("|---|---|---|---|---|---|")
    for way, shares in {"together": same, "alone": [one.accuracy for one in found["alone"]]}.items():
        print(
            f"| {way} | {len(found[way])} | {each[way]:.2f} | {each[way] / each['alone']:.2f} x | "
            f"{100 * sum(shares) / len(shares):.2f} | {100 * min(shares):.1f} |"
        )
    fell = [100 * (both - one) for both, one in zip(same, (one.accuracy for one in found["alone"]), strict=True)]
    print(f"\nA task differs by {min(fell):+.2f} to {max(fell):+.2f} points.")


if __name__ == "__main__":
    main()
