"""How often 64 bytes tell which task images are of: `python tests/benchmarks/signatures.py [--holdout]`, 15 minutes.

MNIST from $IMPRESS_DATA. The recogniser is trained on ten tasks; none of the tasks asked about is among them. Images
asked about are test images, or with --holdout every tenth training image, which neither saw: settings were chosen so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from impress_format.weights import permutation
from impress_learn.recognition.pixel_signature import Signatures, make_pixel_signature, read_signatures, recognise
from impress_learn.recognition.task_classifier import (
    TaskClassifier,
    learning_images,
    make_task_classifier,
    signature_images,
)
from impress_learn.recognition.task_classifier import train_task_classifier as train
from impress_learn.streams.images import Images
from impress_learn.streams.load import TaskData, load_task
from impress_learn.streams.reference import Reference, parse_references

DATA = Path(os.environ["IMPRESS_DATA"])
HOLDOUT = 0.1 if "--holdout" in sys.argv else 0.0
SHAPE = (1, 28, 28)
SIZES = (1, 4, 16, 128)


def data_of(reference: Reference) -> TaskData:
    return load_task(reference, data_dir=DATA, holdout=HOLDOUT)


def some(data: TaskData, chosen: Tensor) -> Images:
    """Some training images, chosen before they are transformed."""
    return replace(data, source_train=data.source_train.subset(chosen)).train


def make(basis: Sequence[Reference]) -> TaskClassifier:
    learning, signing = [], []
    for data in map(data_of, basis):
        learning.append(some(data, learning_images(len(data.source_train), len(basis))))
        signing.append(some(data, signature_images(len(data.source_train))))
    return make_task_classifier(train(learning, signing, SHAPE, seed=0), bytes(2), SHAPE, torch.device("cpu"))


def sign(task_classifier: TaskClassifier, tasks: Sequence[Reference]) -> Signatures:
    rows = []
    for data in map(data_of, tasks):
        rows.append(make_pixel_signature(task_classifier, some(data, signature_images(len(data.source_train))[::3])))
    return read_signatures(task_classifier, np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 64))


def groups_of(task: Reference, size: int, images: int) -> Tensor:
    """Disjoint groups of `size` out of `images` images of a task, other ones for each task."""
    data = data_of(task)
    measured = data.source_validation if HOLDOUT else data.source_test
    chosen = torch.from_numpy(permutation(0, f"asked/{task}", len(measured)))[: images // size * size]
    if HOLDOUT:
        part = replace(data, source_validation=measured.subset(chosen)).validation
    else:
        part = replace(data, source_test=measured.subset(chosen)).test
    return part.batch(slice(None))[0].reshape(-1, size, *SHAPE)


def report(
    title: str,
    task_classifier: TaskClassifier,
    tasks: Sequence[Reference],
    foreign: Mapping[str, Sequence[Reference]],
    images: int,
) -> None:
    """Print how often the right task was found, and one next to it, and how often none of these was said."""
    known = sign(task_classifier, tasks)
    print(f"\n{title}, {len(tasks):,} tasks", flush=True)
    for size in SIZES:
        right = beside = unknown = asked = 0
        every = max(1, len(tasks) // 500)
        for place, task in list(enumerate(tasks))[::every]:
            found = recognise(task_classifier, known, groups_of(task, size, images if size < 128 else 1024))
            apart = (found.scores.argmax(1) - place).abs()
            right += int((apart == 0).sum())
            beside += int((torch.minimum(apart, len(tasks) - apart) <= 1).sum())
            unknown += int(found.unknown.sum())
            asked += len(apart)
        line = f"{size:4} images: right {right / asked:.1%}, within one {beside / asked:.1%}"
        line += f", unknown {unknown / asked:.2%}"
        for name, others in foreign.items():
            flags = [
                recognise(task_classifier, known, groups_of(task, size, max(images, size))).unknown for task in others
            ]
            line += f"; of {name} unknown {float(torch.cat(flags).float().mean()):.1%}"
        print(line, flush=True)


def references(*texts: str) -> list[Reference]:
    return list(parse_references(texts))


def main() -> None:
    torch.set_num_threads(2)
    rotations = make(references("rotated-mnist/0:360:36"))
    other = {"permutations": references("permuted-mnist/500:505")}
    report("rotations 10 degrees apart", rotations, references("rotated-mnist/5:360:10"), other, 320)
    other = {"the other half": references("rotated-mnist/200:340:20"), **other}
    report("rotations of half a turn", rotations, references("rotated-mnist/5:180:10"), other, 320)
    permutations = make(references("permuted-mnist/0:10"))
    other = {
        "other permutations": references("permuted-mnist/500:520"),
        "rotations": references("rotated-mnist/0:360:60"),
    }
    report("permutations", permutations, references("permuted-mnist/1000:1250"), other, 160)
    report("permutations", permutations, references("permuted-mnist/1000:11000"), {}, 32)


if __name__ == "__main__":
    main()
