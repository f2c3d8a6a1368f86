"""Which task are 16 images of, among T: milliseconds by method, and exhaustive beside a plain loop over tasks.

    python tests/benchmarks/inference.py

Ten random masks of LeNet-300-100, random coefficients; medians of several rounds. For docs/results/which-task.md.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from impress_format.parts.pixel_signature import FIXED_BYTES
from impress_learn import LoadedBank, load_bank
from impress_learn.identify.candidates import Mixable
from impress_learn.identify.entropy import binary, exhaustive, one_shot
from impress_learn.jobs import create_bank
from impress_learn.masks.basis import effective_weights
from impress_learn.plan.asked import Masks
from impress_learn.recognition.pixel_signature import Signatures, make_pixel_signature, read_signatures, recognise
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference

MASKS = 10
TASKS = (10, 100, 1_000, 100_000)
IMAGES = 16


def plain_loop(loaded: LoadedBank, tasks: Mixable, groups: Tensor) -> Tensor:
    """Exhaustive, one task after the other."""
    entropies = []
    with torch.no_grad():
        for alpha in tasks.alpha:
            weights = effective_weights(loaded.basis, alpha, tasks.granularity)
            shares = loaded.backbone(weights, groups[0]).log_softmax(1)
            entropies.append((-(shares.exp() * shares).sum(1)).mean())
    return -torch.stack(entropies)[None]


def some_signatures(loaded: LoadedBank, tasks: int) -> Signatures:
    """Signatures of made-up tasks, with the sizes of a real one."""
    assert loaded.task_classifier is not None
    digits = load_task(parse_reference("rotated-digits/10"), data_dir=None).train
    real = np.frombuffer(make_pixel_signature(loaded.task_classifier, digits), dtype=np.uint8)
    rows = np.random.default_rng(0).integers(0, 256, (tasks, len(real)), dtype=np.uint8)
    rows[:, :FIXED_BYTES] = real[:FIXED_BYTES]
    return read_signatures(loaded.task_classifier, rows)


def milliseconds(call: Callable[[], object]) -> float:
    rounds: list[float] = []
    while len(rounds) < 3 or (sum(rounds) < 1.0 and len(rounds) < 30):
        started = time.perf_counter()
        call()
        rounds.append(time.perf_counter() - started)
    return 1e3 * statistics.median(rounds)


def main() -> None:
    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.impress"
        bank = create_bank(path, ["rotated-digits/0:360:36"], masks=Masks(masks_per_task=0, random_masks=MASKS))
        loaded = load_bank(bank, torch.device("cpu"))
        images = torch.randn(1, IMAGES, 1, 28, 28, generator=generator)
        print(f"{'tasks':>10}{'one-shot':>12}{'binary':>12}{'exhaustive':>12}{'plain loop':>12}{'signature':>12}   ms")
        for count in TASKS:
            alpha = torch.randn(count, MASKS, 3, generator=generator) / MASKS
            tasks = Mixable(alpha, 1, torch.full((count,), 10))
            row = [milliseconds(lambda: method(loaded, tasks, images)) for method in (one_shot, binary)]  # noqa: B023
            if count <= 1_000:
                row += [milliseconds(lambda: method(loaded, tasks, images)) for method in (exhaustive, plain_loop)]  # noqa: B023
            else:
                row += [math.nan] * 2
            if count <= 1_000:
                assert torch.allclose(exhaustive(loaded, tasks, images), plain_loop(loaded, tasks, images), atol=1e-4)
            signatures = some_signatures(loaded, count)
            task_classifier = loaded.task_classifier
            assert task_classifier is not None
            row.append(milliseconds(lambda: recognise(task_classifier, signatures, images)))  # noqa: B023
            print(f"{count:10,}" + "".join(f"{value:12.2f}" for value in row), flush=True)


if __name__ == "__main__":
    main()
