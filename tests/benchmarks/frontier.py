"""Accuracy of one new task against the bytes it takes: this project's files beside what else could fill them.

    python tests/benchmarks/frontier.py rotated|permuted [OPTIONS]
    python tests/benchmarks/frontier.py plot FILE.csv... --svg FILE.svg        needs the extra `bench` (matplotlib)

MNIST from $IMPRESS_DATA, test images, over the banks in zoo/ (ten masks of angles; twenty of permutations), or --bank.
--scale small: one task, fewer sizes; full: six angles or five permutations. --seeds: 0 by default (full: 0 1 2).
--ours: what `task add --bytes` gives at three sizes, and no control; --way TEXT: the ways whose name begins so.

All learn by the same loop for as long, are rounded to int8 where they are numbers, and are charged the same 66 bytes
for name, reference and accuracies, what a task takes in a large pack. The learning rate of a control is the best of
three on held-out training images; ours are the defaults.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from impress_format import open_bank
from impress_format.parts.numbers import restore, store
from impress_format.parts.residual import residual_bytes, restore_residual
from impress_format.parts.vote import restore_vote
from impress_format.weights import random_words, substream_seed
from impress_learn import LoadedBank, load_bank
from impress_learn.masks.basis import Basis, LayerMasks, effective_weights, layer_columns
from impress_learn.masks.layer_masks import StackedMasks, stack_masks
from impress_learn.parts.alpha import trainable_alpha
from impress_learn.parts.residual import first_values, make_residual, trainable_residual
from impress_learn.parts.table import nothing
from impress_learn.running.accuracy import accuracy
from impress_learn.streams.classes import TaskClasses
from impress_learn.streams.images import Images, evenly_spread
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference
from impress_learn.tasks.vote import choose_vote
from impress_learn.tasks.weights import train_parts
from impress_learn.training.config import TaskTraining, task_training
from impress_learn.training.loop import minimise

DATA = Path(os.environ.get("IMPRESS_DATA", "."))
ZOO = Path(__file__).parents[2] / "zoo"
OVERHEAD = 66
KEYS = {"rotated": (23, 81, 128, 194, 247, 339), "permuted": (1001, 1002, 1003, 1004, 1005)}
SIZES = {"rotated": (160, 300, 600, 1000, 2100), "permuted": (160, 300, 600, 1000, 2100, 4200)}
OURS = {"rotated": (160, 600, 2100), "permuted": (600, 2100, 4200)}
RATES = (0.01, 0.03, 0.1)
CPU = torch.device("cpu")
Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Control:
    """A way to change a network by few numbers, each stored as int8: `effective(numbers)` -> weights of all layers."""

    name: str
    start: Tensor
    effective: Callable[[Tensor], Weights]


@dataclass(frozen=True, eq=False)
class Place:
    """One task and what it is learned over."""

    loaded: LoadedBank
    key: int
    train: Images
    test: Images
    without_held: Images
    held: Images
    seed: int

    def fit(self, *, epochs: int | None = None, lr: float = 0.03, residual: int = 0) -> TaskTraining:
        asked = TaskTraining(epochs=epochs, lr=lr, seed=substream_seed(self.seed, f"frontier/{self.key}"))
        return task_training(asked.record(len(self.train), residual=residual))


def ours(place: Place, basis: Basis, *, granularity: int = 1, size: int | None = None) -> tuple[int, float]:
    """Bytes and accuracy of alpha over these masks, if any, and of a one-bit residual that fills `size`, if given."""
    loaded, alpha = place.loaded, len(basis) > 0
    spec = loaded.bank.backbone
    columns = sum(layer_columns(basis, granularity))
    taken = OVERHEAD + ((len(basis) + 2) * columns if alpha else 0)
    layers = len(spec.masked_layers)
    values = 0 if size is None else 8 * (size - taken - 2 * layers)
    fit, weights = place.fit(residual=values), loaded.backbone.weights
    parts = [trainable_alpha(basis, fit, granularity, None, "int8")] if alpha else []
    residual = make_residual(spec, values, 1, CPU) if values else None
    if residual is not None:
        parts.append(trainable_residual(residual, weights, first_values(residual, fit.seed, 0.1 if alpha else 0.5)))
    train_parts(loaded.backbone, parts, place.train, fit, on_step=lambda: None)
    effective = nothing(weights)
    if alpha:
        coefficients = restore(np.asarray(parts[0].store()), columns)
        effective = effective_weights(basis, torch.from_numpy(coefficients), granularity)
    if residual is not None:
        restored = restore_residual(np.asarray(parts[-1].store()), 1, spec.masked_layers)
        effective = residual.add_to(effective, weights, torch.from_numpy(restored))
    total = taken + (residual_bytes(values, 1, layers) if values else 0)
    return total, accuracy(loaded.backbone, effective, place.test)


def control(place: Place, one: Control) -> tuple[int, float]:
    """Bytes and accuracy of a control, at the best of RATES for a pass over a third of the images, on held-out ones."""

    def learn(lr: float, epochs: int, train: Images, images: Images) -> float:
        numbers = one.start.clone().requires_grad_()
        backbone = place.loaded.backbone
        fit = place.fit(epochs=epochs, lr=lr)
        minimise(lambda batch: backbone(one.effective(numbers), batch), [numbers], train, fit, on_step=lambda: None)
        rounded = restore(store(numbers.detach().reshape(-1, 1).numpy(), "int8"), 1)
        stored = torch.from_numpy(rounded).reshape(numbers.shape)
        return accuracy(backbone, one.effective(stored), images)

    third = place.without_held.subset(torch.arange(0, len(place.without_held), 3))
    rate = max(RATES, key=lambda lr: learn(lr, 1, third, place.held))
    epochs = place.fit().epochs
    assert epochs is not None
    return OVERHEAD + one.start.numel() + 2, learn(rate, epochs, place.train, place.test)


def controls(place: Place) -> Iterator[Control]:
    """Everything beside which the masks have to prove themselves."""
    backbone, basis = place.loaded.backbone, place.loaded.basis
    mean = effective_weights(basis, torch.ones(len(basis), len(basis.layers)))
    scale = {name: (backbone.weights[name].norm() / weight.norm()).item() for name, weight in mean.items()}
    trained = {name: weight * scale[name] for name, weight in mean.items()}
    for name, base in (("mean mask", trained), ("random network", dict(backbone.weights))):
        yield from _scaled(f"{name}, scales a group", base, (1, 16, 300))
        yield _rows_and_columns(f"{name}, row x column scales", base)
        yield _last_layer(f"{name}, last layer", base)
        for rank in (8, 20):
            yield _low_rank(f"{name}, LoRA-XS-like", base, rank)
        yield _pranc(f"{name}, PRANC-like", base, 128)
    signs = _random_basis(backbone.weights, len(basis))
    for granularity in (1, 16, 300):
        yield _combined("alpha over random +-1 masks", signs, granularity)


def _scaled(name: str, base: Weights, groups: Sequence[int]) -> Iterator[Control]:
    for granularity in groups:
        layers: dict[str, LayerMasks] = {key: StackedMasks(one.flatten(1)[None]) for key, one in base.items()}
        yield _combined(name, Basis(layers, {key: one.shape for key, one in base.items()}), granularity)


def _combined(name: str, basis: Basis, granularity: int) -> Control:
    columns = sum(layer_columns(basis, granularity))
    return Control(
        name,
        torch.full((len(basis), columns), 1.0 / len(basis)),
        lambda numbers: effective_weights(basis, numbers, granularity),
    )


def _random_basis(weights: Weights, count: int) -> Basis:
    """Dense masks of random signs: they take no bytes, and have seen no task."""

    def signs(name: str, index: int, size: int) -> np.ndarray:
        words = random_words(index, f"frontier/{name}", -(-size // 64)).astype("<u8").view(np.uint8)
        return np.unpackbits(words, count=size).astype(np.float32) * 2 - 1

    layers: dict[str, LayerMasks] = {
        name: stack_masks(
            [torch.from_numpy(signs(name, index, one.numel())).reshape(one.shape) for index in range(count)], one
        )
        for name, one in weights.items()
    }
    return Basis(layers, {name: one.shape for name, one in weights.items()})


def _rows_and_columns(name: str, base: Weights) -> Control:
    sizes = [size for one in base.values() for size in one.shape]

    def effective(numbers: Tensor) -> Weights:
        parts = iter(numbers.split(sizes))
        return {key: one * next(parts)[:, None] * next(parts)[None] for key, one in base.items()}

    return Control(name, torch.ones(sum(sizes)), effective)


def _last_layer(name: str, base: Weights) -> Control:
    last = list(base)[-1]
    size = base[last].std().item()

    def effective(numbers: Tensor) -> Weights:
        return {**base, last: numbers.reshape(base[last].shape) * size}

    return Control(name, (base[last] / size).flatten().clone(), effective)


def _low_rank(name: str, base: Weights, rank: int) -> Control:
    """W + A R B, A and B the singular directions of W (LoRA-XS, arXiv 2405.17604), R in units of W's mean square."""
    sides = {}
    for key, one in base.items():
        left, values, right = torch.linalg.svd(one, full_matrices=False)
        used = min(rank, len(values))
        sides[key] = (left[:, :used] * values[:used].mean(), right[:used])
    sizes = [side[0].shape[1] ** 2 for side in sides.values()]

    def effective(numbers: Tensor) -> Weights:
        parts = numbers.split(sizes)
        return {
            key: base[key] + left @ part.reshape(left.shape[1], -1) @ right
            for (key, (left, right)), part in zip(sides.items(), parts, strict=True)
        }

    return Control(name, torch.zeros(sum(sizes)), effective)


def _pranc(name: str, base: Weights, count: int) -> Control:
    """W + a sum of seeded random networks (PRANC, arXiv 2206.08464), each of W's size over the root of their number."""
    generator = torch.Generator().manual_seed(0)
    layers = [one.numel() for one in base.values()]
    sizes = torch.cat([one.std().expand(one.numel()) for one in base.values()])
    networks = torch.randn(count, sum(layers), generator=generator) * sizes / count**0.5

    def effective(numbers: Tensor) -> Weights:
        added = (numbers @ networks).split(layers)
        return {key: one + part.reshape(one.shape) for (key, one), part in zip(base.items(), added, strict=True)}

    return Control(name, torch.zeros(count), effective)


def rows(place: Place, stream: str, *, only_ours: bool, way: str, full: bool) -> Iterator[tuple[str, int, float]]:
    """(name, bytes, accuracy) of each way whose name begins with `way`."""
    basis = place.loaded.basis
    if only_ours:
        for size in OURS[stream]:
            yield "alpha + residual", *ours(place, basis, size=size)
        return
    for name, some in (("best mask", _best_mask), ("votes", _votes), ("votes, no label", _votes_without_labels)):
        if name.startswith(way):
            yield name, *some(place)
    for granularity in (1, 4, 16) if "alpha, G".startswith(way) else ():
        yield f"alpha, G = {granularity}", *ours(place, basis, granularity=granularity)
    least = OVERHEAD + (len(basis) + 2) * len(basis.shapes) + 32
    for name, masks in (
        ("alpha + residual", basis),
        ("residual alone", basis.first(0)),
        ("alpha over random +-1 masks + residual", _random_basis(place.loaded.backbone.weights, len(basis))),
    ):
        for size in SIZES[stream] if full or name == "alpha + residual" else SIZES[stream][::2]:
            if (size >= least or not len(masks)) and name.startswith(way):
                yield name, *ours(place, masks, size=size)
    for one in (one for one in controls(place) if one.name.startswith(way)):
        yield one.name, *control(place, one)


def _best_mask(place: Place) -> tuple[int, float]:
    """The mask that does best on 2,000 training images, as it is: an index of a byte."""
    loaded, few = place.loaded, place.train.subset(evenly_spread(len(place.train), 2_000))
    shares = [accuracy(loaded.backbone, loaded.mask_weights(index), few) for index in range(len(loaded.basis))]
    return OVERHEAD + 1, accuracy(loaded.backbone, loaded.mask_weights(int(np.argmax(shares))), place.test)


def _votes(place: Place, *, labelled: bool = True) -> tuple[int, float]:
    chosen = choose_vote(place.loaded, place.train, classes=TaskClasses(10, None), labelled=labelled)
    voting = place.loaded.vote(restore_vote(chosen.stored))
    return OVERHEAD + len(chosen.stored), accuracy(place.loaded.backbone, voting, place.test)


def _votes_without_labels(place: Place) -> tuple[int, float]:
    return _votes(place, labelled=False)


def measure(
    stream: str, scale: str, only_ours: bool, way: str, bank: Path | None, path: Path, seeds: Sequence[int]
) -> None:
    """Append one line a measurement to `path`."""
    folder = bank or ZOO / f"mnist-{stream}.impress"
    loaded, full = load_bank(open_bank(folder), CPU), scale == "full"
    with path.open("a", newline="") as file:
        out = csv.writer(file)
        if not file.tell():
            out.writerow(("bank", "stream", "key", "seed", "way", "bytes", "accuracy"))
        for seed in seeds or range(3 if full else 1):
            for key in KEYS[stream] if full else KEYS[stream][:1]:
                reference = parse_reference(f"{stream}-mnist/{key}")
                data, apart = (load_task(reference, data_dir=DATA, holdout=share) for share in (0.0, 0.1))
                place = Place(loaded, key, data.train, data.test, apart.train, apart.validation, seed)
                for name, size, share in rows(place, stream, only_ours=only_ours, way=way, full=full):
                    out.writerow((folder.name, stream, key, seed, name, size, f"{share:.4f}"))
                    file.flush()
                    now = time.strftime("%H:%M:%S")
                    print(f"{now} {stream}/{key} seed {seed}: {name}, {size} B: {100 * share:.1f} %", flush=True)


def plot(paths: Sequence[Path], svg: Path) -> None:
    """Means over tasks and seeds, a panel a stream."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "impress", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for path in paths:
        for row in csv.DictReader(path.open()):
            curve = found.setdefault(row["stream"], {}).setdefault(row["way"], {})
            curve.setdefault(int(row["bytes"]), []).append(100 * float(row["accuracy"]))
    figure, panels = plt.subplots(1, len(found), figsize=(6.5 * len(found), 6), squeeze=False)
    for panel, (stream, ways) in zip(panels[0], found.items(), strict=True):
        for number, (way, points) in enumerate(ways.items()):
            sizes = sorted(points)
            mine = way.startswith(("alpha + residual", "alpha, G", "residual alone", "votes"))
            panel.plot(
                sizes, [sum(points[size]) / len(points[size]) for size in sizes],
                "-o" if mine else "--x", label=way, linewidth=2 if mine else 0.8, color=plt.get_cmap("tab20")(number),
            )  # fmt: skip
        panel.set(
            xscale="log", xlabel="bytes on disk (in a large pack)", ylabel="test accuracy, %", title=f"{stream} MNIST"
        )
        panel.legend(fontsize=7)
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(svg, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("rotated", "permuted", "plot"))
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--scale", choices=("small", "full"), default="small")
    parser.add_argument("--ours", action="store_true")
    parser.add_argument("--way", default="")
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--csv", type=Path, default=Path("frontier.csv"))
    parser.add_argument("--svg", type=Path, default=Path("frontier.svg"))
    asked = parser.parse_args()
    if asked.what == "plot":
        plot(asked.files, asked.svg)
    else:
        measure(asked.what, asked.scale, asked.ours, asked.way, asked.bank, asked.csv, asked.seeds)


if __name__ == "__main__":
    main()
