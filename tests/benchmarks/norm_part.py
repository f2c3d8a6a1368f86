"""What moving scale and shift of norm layers buys a byte, beside a residual of as many bytes (docs/results, Norm).

    python tests/benchmarks/norm_part.py FOLDER                       # of test images
    python tests/benchmarks/norm_part.py FOLDER --rates               # of held-out images: what the rate was chosen by
    python tests/benchmarks/norm_part.py FOLDER --photos DATA_DIR     # over pretrained weights, --rates likewise

Four masks of turned digits, density .3, on a small ResNet with BatchNorm; tasks that are turned otherwise, and one with
permuted pixels, each learned for 20 epochs. With --photos, heads over the zoo's photos-cifar100, whose weights must be
there (`impress weights add`), of tasks that its projection was not made of. FOLDER keeps the bank: it is made once.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

from impress_format import open_bank
from impress_learn import Parts, add_tasks, create_bank
from impress_learn.plan.asked import Masks, Network
from impress_learn.training.config import MaskTraining, TaskTraining

ZOO = Path(__file__).parents[2] / "zoo"
BASIS = tuple(f"rotated-digits/{angle}" for angle in (0, 90, 180, 270))
CHOSEN_BY, NEW = "rotated-digits/45", ("rotated-digits/20", "rotated-digits/110", "permuted-digits/3")
PHOTOS_CHOSEN_BY, PHOTOS = "split-cifar100/19", ("split-cifar100/10", "split-cifar100/12", "split-cifar100/14")
HOLDOUT = 0.2
RATES, PHOTO_RATES = (0.03, 0.1, 0.3, 1.0, 3.0), (0.01, 0.03, 0.1, 0.3)
WAYS: dict[str, Callable[[int], Parts]] = {
    "as it is": lambda _: Parts(signature=False),
    "norm, 4 bits": lambda _: Parts(norm=4, signature=False),
    "norm, 8 bits": lambda _: Parts(norm=8, signature=False),
    "residual as large as norm of 4 bits": lambda size: Parts(residual=8 * size, signature=False),
    "both": lambda size: Parts(norm=4, residual=8 * size, signature=False),
}


def main(folder: Path, photos: Path | None, *, rates: bool) -> None:
    path = folder / ("photos.impress" if photos else "norm.impress")
    if not photos:
        fit = MaskTraining(epochs=12, holdout=HOLDOUT if rates else 0)
        create_bank(path, BASIS, network=Network(backbone="timm:test_resnet"), masks=Masks(density=0.3), fit=fit)
    elif not path.exists():
        shutil.copytree(ZOO / "photos-cifar100.impress", path)
    learn = partial(_learn, path, photos, None if photos else 20)
    if rates:
        for rate in PHOTO_RATES if photos else RATES:
            with patch(f"impress_learn.parts.norm.{'BESIDE_READ_OUT' if photos else 'RATE'}", rate):
                task = PHOTOS_CHOSEN_BY if photos else CHOSEN_BY
                _, share = learn(task, Parts(norm=4, signature=False), holdout=HOLDOUT)
            print(f"rate {rate}: {100 * share:.1f} on held-out images", flush=True)
        return
    for task in PHOTOS if photos else NEW:
        size = bare = 0
        for way, parts in WAYS.items():
            taken, share = learn(task, parts(size), holdout=0.0)
            if way == "norm, 4 bits":
                size = taken - bare
            if way == "as it is":
                bare = taken
            print(f"{task}: {way}: {taken:,} B, {100 * share:.1f}", flush=True)


def _learn(
    path: Path, data_dir: Path | None, epochs: int | None, task: str, parts: Parts, *, holdout: float
) -> tuple[int, float]:
    (added,) = add_tasks(
        path, [task], fit=TaskTraining(epochs=epochs, holdout=holdout), name="trial", parts=parts, data_dir=data_dir
    )
    open_bank(path).remove_task("trial")
    return added.bytes, added.accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path, metavar="DATA_DIR")
    parser.add_argument("--rates", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    main(asked.folder, asked.photos, rates=asked.rates)
