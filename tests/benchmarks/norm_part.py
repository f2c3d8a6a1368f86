"""What moving scale and shift of norm layers buys a byte, beside a residual of as many bytes (docs/results.md).

    python tests/benchmarks/norm_part.py FOLDER            # of test images
    python tests/benchmarks/norm_part.py FOLDER --rates    # of held-out images: what the rate was chosen by

Four masks of turned digits, density .3, on a small ResNet with BatchNorm; tasks that are turned otherwise, and one with
permuted pixels, each learned for 20 epochs. FOLDER keeps the bank: it is made once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from impress_format import open_bank
from impress_learn import Parts, add_tasks, create_bank
from impress_learn.fits import MaskFit, TaskFit
from impress_learn.plan.asked import Masks, Network

BASIS = tuple(f"rotated-digits/{angle}" for angle in (0, 90, 180, 270))
CHOSEN_BY, NEW = ("rotated-digits/45",), ("rotated-digits/20", "rotated-digits/110", "permuted-digits/3")
HOLDOUT = 0.2
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
WAYS: dict[str, Callable[[int], Parts]] = {
    "alpha": lambda _: Parts(signature=False),
    "alpha, granularity 16": lambda _: Parts(granularity=16, signature=False),
    "norm, 4 bits": lambda _: Parts(norm=4, signature=False),
    "norm, 8 bits": lambda _: Parts(norm=8, signature=False),
    "residual as large as norm of 4 bits": lambda size: Parts(residual=8 * size, signature=False),
    "both": lambda size: Parts(norm=4, residual=8 * size, signature=False),
}


def main(folder: Path, *, rates: bool) -> None:
    path = folder / "norm.impress"
    create_bank(
        path,
        BASIS,
        network=Network(backbone="timm:test_resnet"),
        masks=Masks(density=0.3),
        fit=MaskFit(epochs=12, holdout=HOLDOUT if rates else 0),
    )
    if rates:
        for rate in RATES:
            with patch("impress_learn.parts.norm.RATE", rate):
                shares = [_learn(path, task, Parts(norm=4, signature=False), HOLDOUT)[1] for task in CHOSEN_BY]
            print(f"rate {rate}: {100 * sum(shares) / len(shares):.1f} on held-out images", flush=True)
        return
    for task in NEW:
        size = bare = 0
        for way, parts in WAYS.items():
            taken, share = _learn(path, task, parts(size), 0.0)
            if way == "norm, 4 bits":
                size = taken - bare
            if way == "alpha":
                bare = taken
            print(f"{task}: {way}: {taken:,} B, {100 * share:.1f}", flush=True)


def _learn(path: Path, task: str, parts: Parts, holdout: float) -> tuple[int, float]:
    (added,) = add_tasks(path, [task], fit=TaskFit(epochs=20, holdout=holdout), name="trial", parts=parts)
    open_bank(path).remove_task("trial")
    return added.bytes, added.accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rates", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    main(asked.folder, rates=asked.rates)
