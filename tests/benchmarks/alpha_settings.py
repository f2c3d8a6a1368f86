"""Settings of alpha and of its updates, judged on training images that were held out from masks and tasks alike.

    python tests/benchmarks/alpha_settings.py DATA_DIR FOLDER

Prints the tables of docs/trials.md, "Settings of alpha", and of "Drift" (docs/results). FOLDER keeps the bank, which is
trained once.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from impress_format.bank import open_bank
from impress_learn import load_bank
from impress_learn.jobs import add_tasks, create_bank, update_task
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks
from impress_learn.running.accuracy import accuracy
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_references
from impress_learn.training.config import MaskTraining, TaskTraining

HOLDOUT = 1 / 6
NEW = ("rotated-mnist/5", "rotated-mnist/18", "rotated-mnist/125", "rotated-mnist/245")
DRIFTING = (15, 75, 135, 195)


def main(data_dir: Path, folder: Path) -> None:
    basis = folder / "honest.impress"
    create_bank(
        basis,
        ["rotated-mnist/0:360:36"],
        masks=Masks(density=0.2),
        fit=MaskTraining(holdout=HOLDOUT),
        data_dir=data_dir,
    )
    print("granularity, epochs, lr: accuracy on held-out images of", *NEW)
    for granularity, epochs, lr in (
        (1, 1, 0.01), (1, 1, 0.03), (1, 1, 0.1), (1, 3, 0.01), (1, 3, 0.03), (1, 3, 0.1),
        (300, 1, 0.03), (300, 3, 0.01), (300, 3, 0.03), (300, 3, 0.1),
    ):  # fmt: skip
        bank = fresh(basis, folder)
        found = add_tasks(
            bank,
            NEW,
            parts=Parts(granularity=granularity),
            fit=TaskTraining(epochs=epochs, lr=lr, holdout=HOLDOUT),
            data_dir=data_dir,
        )
        print(granularity, epochs, lr, *numbers([task.accuracy for task in found]), flush=True)
    for degrees in (5, 20):
        drift(basis, folder, degrees, data_dir)


def drift(basis: Path, folder: Path, degrees: int, data_dir: Path) -> None:
    """Five images a class of an angle `degrees` further on, from the alpha there is or from 1/K."""
    bank = fresh(basis, folder)
    names = [f"rotated-mnist-{angle}" for angle in DRIFTING]
    add_tasks(
        bank, [f"rotated-mnist/{angle}" for angle in DRIFTING], fit=TaskTraining(holdout=HOLDOUT), data_dir=data_dir
    )
    further = [f"rotated-mnist/{angle + degrees}" for angle in DRIFTING]
    loaded = load_bank(open_bank(bank), torch.device("cpu"))
    images = [load_task(one, data_dir=data_dir, holdout=HOLDOUT).validation for one in parse_references(further)]
    as_is = [
        accuracy(loaded.backbone, loaded.task_weights(name), held) for name, held in zip(names, images, strict=True)
    ]
    print(f"drift {degrees}: the stored alpha as it is", *numbers(as_is), flush=True)
    anew = add_tasks(fresh(basis, folder), further, fit=TaskTraining(shots=5, holdout=HOLDOUT), data_dir=data_dir)
    print(f"drift {degrees}: from 1/K, lr 0.03", *numbers([task.accuracy for task in anew]), flush=True)
    for lr in (0.03, 0.003, 0.001):
        bank = fresh(basis, folder)
        add_tasks(
            bank, [f"rotated-mnist/{angle}" for angle in DRIFTING], fit=TaskTraining(holdout=HOLDOUT), data_dir=data_dir
        )
        updated = [
            update_task(
                bank, name, reference, fit=TaskTraining(lr=lr, shots=5, holdout=HOLDOUT), data_dir=data_dir
            ).accuracy
            for name, reference in zip(names, further, strict=True)
        ]
        print(f"drift {degrees}: from the stored alpha, lr {lr}", *numbers(updated), flush=True)


def fresh(basis: Path, folder: Path) -> Path:
    """A copy of the bank without tasks."""
    bank = folder / "try.impress"
    shutil.rmtree(bank, ignore_errors=True)
    return Path(shutil.copytree(basis, bank))


def numbers(shares: list[float]) -> list[str]:
    return [*(f"{100 * share:.1f}" for share in shares), f"mean {100 * sum(shares) / len(shares):.2f}"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
