"""Heads of a few bits over features of a pretrained network: which projection, how many dimensions, bits a value.

    impress bank create BANK split-cifar100/0 --backbone timm:efficientnet_lite0 --weights lite0.safetensors \\
        --image-size 96 --masks-per-task 0                                                   # docs/images.md
    python tests/benchmarks/heads.py choose BANK --data-dir DIR
    python tests/benchmarks/heads.py measure BANK --data-dir DIR

A head is 5 rows of D values, each of a few bits with a scale a row, and a bias a class; it is rounded in training. The
projection is made of tasks that the head has not seen: `choose` makes it of tasks 0 to 4 and judges heads of tasks 5 to
9 on a fifth of their training images; `measure` makes it of tasks 0 to 9 and judges heads of tasks 10 to 19 on test
images. Features are kept beside the bank, some ten minutes on two cores; one seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impress_format import open_bank
from impress_learn import LoadedBank, load_bank
from impress_learn.network.kept_weights import find_weights
from impress_learn.streams.images import Images

CLASSES, STEPS, RATE, BATCH = 5, 400, 0.03, 256
RIDGE = {None: 1e-3, 300: 1e-3, 10: 3e-2}
"""By images a class, None for all of them: chosen on held-out images among .001, .01 and .03."""
STEP = {1: 0.7979, 2: 0.4979, 4: 0.1676}
"""Half the step of the best uniform quantiser of a standard normal variable with 2^b levels (Max 1960)."""


@dataclass(frozen=True, eq=False)
class Split:
    """Features (N, 1280) and labels (N,), to learn from and to be judged on."""

    features: Tensor
    labels: Tensor
    judged: Tensor
    answers: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("choose", "measure"))
    parser.add_argument("bank", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    chosen = parser.parse_args()
    loaded = load_bank(open_bank(chosen.bank), torch.device("cpu"))
    old, new = (range(5), range(5, 10)) if chosen.what == "choose" else (range(10), range(10, 20))
    tasks = {key: _features(loaded, key, chosen.bank, chosen.data_dir) for key in (*old, *new)}
    seen = torch.cat([tasks[key].features for key in old])
    classes = torch.cat([tasks[key].labels + CLASSES * key for key in old])
    mean = seen.mean(0)
    if chosen.what == "choose":
        tasks.update({key: _held_out(tasks[key], key) for key in new})
    for name, projection in _projections(loaded, seen - mean, classes):
        for shots in RIDGE:
            for bits in (None, 4, 2, 1):
                shares = [_judge(tasks[key], mean, projection, bits, shots, key) for key in new]
                size = "float" if bits is None else f"{CLASSES * (len(projection) * bits / 8 + 4):.0f} B"
                images = "all images" if shots is None else f"{shots} images a class"
                print(f"{name}, {size}, {images}: {sum(shares) / len(shares):.1f} % ({min(shares):.1f} to "
                      f"{max(shares):.1f})", flush=True)  # fmt: skip


def _features(loaded: LoadedBank, key: int, bank: Path, data_dir: Path) -> Split:
    path = bank.with_name(f"{bank.name}.features") / f"{key}.pt"
    if not path.exists():
        from impress_learn.streams.reference import parse_reference

        data = loaded.task_data(parse_reference(f"split-cifar100/{key}"), data_dir=data_dir)
        path.parent.mkdir(exist_ok=True)
        torch.save([_of(loaded, data.train), data.train.labels, _of(loaded, data.test), data.test.labels], path)
        print(f"features of task {key}", flush=True)
    return Split(*(one.float() if one.is_floating_point() else one for one in torch.load(path, weights_only=True)))


def _of(loaded: LoadedBank, images: Images) -> Tensor:
    module = loaded.backbone.module
    with torch.no_grad():
        parts = [images.batch(slice(start, start + 250))[0] for start in range(0, len(images), 250)]
        return torch.cat([module.forward_head(module.forward_features(one), pre_logits=True).half() for one in parts])  # type: ignore[operator]


def _held_out(task: Split, key: int) -> Split:
    order = torch.randperm(len(task.labels), generator=torch.Generator().manual_seed(key))
    apart, rest = order[: len(order) // 5], order[len(order) // 5 :]
    return Split(task.features[rest], task.labels[rest], task.features[apart], task.labels[apart])


def _projections(loaded: LoadedBank, centred: Tensor, classes: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Name and rows (D, 1280); features come out with a deviation of about 1 to 3 in the first direction."""
    width = centred.shape[1]
    yield "all features", torch.eye(width) / centred.std()
    variances, axes = _sorted_eigh(centred.T @ centred / len(centred))
    for dimensions in (32, 64, 128, 256):
        rows = axes[:, :dimensions].T
        yield f"PCA {dimensions}", 3 * rows / variances[0].sqrt()
        yield f"PCA {dimensions}, whitened", rows / variances[:dimensions].sqrt()[:, None]
    means = torch.stack([centred[classes == one].mean(0) for one in classes.unique()])
    apart = centred - means[classes.unique(return_inverse=True)[1]]
    within = apart.T @ apart / len(apart)
    inverse = torch.linalg.inv(torch.linalg.cholesky(within + 0.1 * within.trace() / width * torch.eye(width)))
    _, turned = _sorted_eigh(inverse @ (centred.T @ centred / len(centred)) @ inverse.T)
    for dimensions in (32, 64, 128, 256):
        yield f"whitened within classes {dimensions}", turned[:, :dimensions].T @ inverse
    record = loaded.bank.backbone.pretrained
    assert record is not None
    classifier = next(one for one in find_weights(record).values() if one.ndim == 2 and one.shape[1] == width)
    _, _, directions = torch.linalg.svd(classifier.float(), full_matrices=False)
    yield "SVD of the network's own classifier 64", directions[:64]


def _sorted_eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0), vectors.flip(1)


def _judge(task: Split, mean: Tensor, projection: Tensor, bits: int | None, shots: int | None, key: int) -> float:
    rows = slice(None) if shots is None else _few(task.labels, shots, key)
    seen, judged = ((features - mean) @ projection.T for features in (task.features[rows], task.judged))
    labels = task.labels[rows]
    generator = torch.Generator().manual_seed(0)
    weight = (1e-3 * torch.randn(CLASSES, len(projection), generator=generator)).requires_grad_()
    bias = torch.zeros(CLASSES, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        batch = torch.randint(0, len(seen), (min(BATCH, len(seen)),), generator=generator)
        loss = cross_entropy(seen[batch] @ _rounded(weight, bits).T + bias, labels[batch])
        loss = loss + RIDGE[shots] * weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        right = (judged @ _rounded(weight, bits).T + bias).argmax(1) == task.answers
    return 100 * right.float().mean().item()


def _rounded(weight: Tensor, bits: int | None) -> Tensor:
    """As stored: levels 1 - 2^b, ... 2^b - 1 of a scale a row; gradients go straight through."""
    if bits is None:
        return weight
    levels = 2**bits - 1
    scale = weight.detach().square().mean(1, keepdim=True).sqrt() * STEP[bits]
    codes = ((weight.detach() / scale + levels) / 2).round().clamp(0, levels)
    rounded: Tensor = weight + ((2 * codes - levels) * scale - weight).detach()
    return rounded


def _few(labels: Tensor, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    members: Mapping[int, Tensor] = {one: torch.nonzero(labels == one).flatten() for one in range(CLASSES)}
    return torch.cat([one[torch.randperm(len(one), generator=generator)[:count]] for one in members.values()])


if __name__ == "__main__":
    main()
