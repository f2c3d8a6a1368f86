"""A batch of images of 256 tasks, of very many that are stored: beside one network, and beside one task after another.

    python tests/benchmarks/mixed.py [TASKS] [--photos BANK]

TASKS (100,000) tasks of ten random masks of LeNet-300-100, synthetic coefficients; with --photos as many synthetic
heads of 5 classes, 128 dimensions, 2 bits, in a copy of a bank over pretrained weights (docs/images.md). Each time is
the median of five, side by side; reading the tasks from the bank is part of it, but where they are kept.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from million_tasks import MASKS, fill

from impress_format import Bank, open_bank
from impress_format.disk.files import make_folder, write_atomically
from impress_format.parts.class_names import ClassSettings
from impress_format.parts.head import HeadSettings, store_head
from impress_format.parts.table import Settings
from impress_format.records.fields import ValueBits
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.file import seal_parts
from impress_format.tasks.pack_seal import seal_pack
from impress_format.tasks.record import TaskRecord
from impress_format.tasks.seal import digest_of_task
from impress_format.tasks.store import PACKS
from impress_format.tasks.text import write_text
from impress_learn import LoadedBank, load_bank
from impress_learn.running.mixed import mixed
from impress_learn.running.task_cache import cache_tasks

IMAGES, CLASSES, DIMENSIONS = 256, 5, 128
BITS: ValueBits = 2


def fill_heads(bank: Bank, tasks: int) -> None:
    """A pack of heads as `pack_tasks` writes it, without the loose files before."""
    generator = np.random.default_rng(0)
    fit, basis = TaskTrainingRecord(epochs=25, lr=0.03), bank.basis_digest(0, projected=True)
    texts, heads = [], []
    for key in sorted(range(tasks), key=str):
        record = TaskRecord(name=f"photos-{key}", task=f"photos/{key}", basis=basis, accuracy=0.9,
                            train_accuracy=0.9, fit=fit,
                            settings=Settings(head=HeadSettings(bits=BITS),
                                              classes=ClassSettings(count=CLASSES)))  # fmt: skip
        texts.append(write_text(record))
        codes = generator.integers(0, 2**BITS, (CLASSES, DIMENSIONS)).astype(np.uint8)
        scales = generator.uniform(0.01, 0.1, CLASSES).astype(np.float16)
        heads.append(store_head(codes, scales, generator.normal(size=CLASSES).astype(np.float16), BITS))
    files = (seal_parts(bank.path, text, {"head": head}) for text, head in zip(texts, heads, strict=True))
    digests = np.frombuffer(b"".join(map(digest_of_task, files)), dtype=np.uint8).reshape(-1, 16)
    name, content = seal_pack(texts, digests, {"head": np.stack(heads)}, short=True)
    make_folder(bank.path / PACKS)
    write_atomically(bank.path / PACKS / name, content, replace=True)


def took(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def resident() -> float:
    """Megabytes of this process that are in memory and no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3


def measure(what: str, loaded: LoadedBank, names: list[str]) -> None:
    images = torch.randn(IMAGES, *loaded.bank.backbone.input_shape, generator=torch.Generator().manual_seed(0))
    weights = loaded.task_weights(names[0])
    one = took(lambda: loaded.logits(weights, images))
    together = took(lambda: mixed(loaded, images, names))
    before, started = resident(), time.perf_counter()
    cache = cache_tasks(loaded.bank)
    keeping, held = time.perf_counter() - started, resident() - before
    at_hand = took(lambda: mixed(loaded, images, names, cache))
    few = names[:16]
    alone = took(lambda: [loaded.logits(loaded.task_weights(name), image[None]) for name, image in zip(few, images)])  # noqa: B905
    alone *= IMAGES / len(few)
    found = mixed(loaded, images[:16], few)
    expected = torch.cat([loaded.logits(loaded.task_weights(name), images[i : i + 1]) for i, name in enumerate(few)])
    off = (found - expected).abs().max() / expected.abs().max()
    print(
        f"{what}: one network {1e3 * one:.1f} ms, mixed {1e3 * together:.0f} ms = {together / one:.2f} x, one by one "
        f"{1e3 * alone:.0f} ms = {alone / together:.1f} x mixed; kept {1e3 * at_hand:.1f} ms = {at_hand / one:.2f} x, "
        f"keeping took {keeping:.1f} s and {held:.0f} MB; logits differ by {off:.0e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="?", type=int, default=100_000)
    parser.add_argument("--photos", type=Path)
    chosen = parser.parse_args()
    some = np.random.default_rng(1).integers(0, chosen.tasks, IMAGES).tolist()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "alpha.impress"
        create = ["bank", "create", path, "rotated-digits/0", "--masks-per-task", "0", "--random-masks", str(MASKS)]
        subprocess.run([sys.executable, "-m", "impress_cli", *map(str, create), "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        bank = open_bank(path)
        fill(bank, chosen.tasks)
        measure(
            f"{chosen.tasks:,} tasks over {MASKS} masks",
            load_bank(bank, torch.device("cpu")),
            [f"permuted-mnist-{key}" for key in some],
        )
        if chosen.photos is not None:
            shutil.copytree(chosen.photos, Path(folder) / "photos.impress")
            photos = open_bank(Path(folder) / "photos.impress")
            fill_heads(photos, chosen.tasks)
            measure(
                f"{chosen.tasks:,} heads over {photos.backbone.arch}",
                load_bank(photos, torch.device("cpu")),
                [f"photos-{key}" for key in some],
            )


if __name__ == "__main__":
    main()
