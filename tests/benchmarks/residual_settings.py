"""Settings of the one-bit residual, judged on training images held out from masks and tasks alike.

    python tests/benchmarks/residual_settings.py DATA_DIR FOLDER [--csv FILE]

One line a setting, task and seed, and at the end the means. All settings take the same bytes (a
scale more is 16 values less) and learn alpha beside the residual by the library's own loop.
FOLDER keeps the banks: they are trained once.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from impress_format.bank import open_bank
from impress_format.parts.residual import hash_places, split_values
from impress_format.records.network import BackboneSpec, LayerSpec
from impress_format.weights import substream_seed
from impress_learn import load_bank
from impress_learn.jobs import create_bank
from impress_learn.masks.basis import effective_weights
from impress_learn.parts.alpha import trainable_alpha
from impress_learn.parts.residual import HashedResidual, first_values, make_residual, trainable_residual
from impress_learn.plan.asked import Masks
from impress_learn.running.accuracy import accuracy
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference
from impress_learn.tasks.weights import train_parts
from impress_learn.training.config import MaskTraining, TaskTraining, task_training

HOLDOUT = 1 / 6
SEEDS = 3
BASES = {"rotated": "rotated-mnist/0:360:36", "permuted": "permuted-mnist/0:20"}
NEW = {"rotated": (23, 247), "permuted": (2001, 2002)}
SIZES = {"rotated": (128, 512), "permuted": (512, 2048)}
EPOCHS = 3
Make = Callable[[BackboneSpec, int], HashedResidual]


class OnCombination(HashedResidual):
    """W_eff = (1 + v[h]) * (the combination): scales what alpha has combined."""

    def add_to(
        self, combined: Mapping[str, Tensor], weights: Mapping[str, Tensor], values: Tensor
    ) -> dict[str, Tensor]:
        grown = HashedResidual.add_to(self, combined, combined, values)
        return {name: grown[name] for name in weights}


class Added(HashedResidual):
    """W_eff = combination + v[h] * |W|: signs of the frozen weights do not count."""

    def add_to(
        self, combined: Mapping[str, Tensor], weights: Mapping[str, Tensor], values: Tensor
    ) -> dict[str, Tensor]:
        return super().add_to(combined, {name: weight.abs() for name, weight in weights.items()}, values)


class RoundedAfter(HashedResidual):
    """Learned as float32, one bit only once learned."""

    def rounded(self, values: Tensor) -> Tensor:
        return super().rounded(values) if not values.requires_grad else values


def of_unit(unit: str) -> Make:
    """As ever, but that all weights of a `unit` of a layer share a value."""

    def block_of(layer: LayerSpec) -> npt.NDArray[np.int64]:
        columns = layer.size // layer.shape[0]
        row, column = np.divmod(np.arange(layer.size), columns)
        blocks: dict[str, npt.NDArray[np.int64]] = {
            "row": row,
            "column": column,
            "4 weights of a row": row * columns + column // 4,
            "16 weights of a row": row * columns + column // 16,
            "4 rows": row // 4 * columns + column,
            "4 x 4 weights": row // 4 * columns + column // 4,
        }
        return blocks[unit]

    def make(spec: BackboneSpec, count: int) -> HashedResidual:
        return laid(spec, split_values(spec.masked_layers, count), block_of)

    return make


def by_power(power: float) -> Make:
    """As ever, but that a layer of n weights has its share of the values in proportion to n^power."""

    def make(spec: BackboneSpec, count: int) -> HashedResidual:
        shares = np.array([layer.size**power for layer in spec.masked_layers])
        sizes = np.maximum(1, np.floor(count * shares / shares.sum())).astype(int)
        sizes[0] += count - sizes.sum()
        return laid(spec, [int(size) for size in sizes], lambda layer: np.arange(layer.size))

    return make


def laid(
    spec: BackboneSpec, sizes: Sequence[int], block_of: Callable[[LayerSpec], npt.NDArray[np.int64]]
) -> HashedResidual:
    """Weights of one block, numbered for each weight in C order, share the value that the block is hashed to."""
    places, first = {}, 0
    for layer, size in zip(spec.masked_layers, sizes, strict=True):
        block = block_of(layer)
        chosen = hash_places(spec.seed, LayerSpec(name=layer.name, shape=(int(block.max()) + 1,)), size)[block]
        places[layer.name] = torch.from_numpy(chosen + first).reshape(layer.shape)
        first += size
    return HashedResidual(1, tuple(sizes), places)


def with_scales(parts: int) -> Make:
    """As ever, with `parts` scales a layer (0: one for all layers)."""

    def make(spec: BackboneSpec, count: int) -> HashedResidual:
        layers = len(spec.masked_layers)
        count -= 16 * ((parts * layers or 1) - layers)
        made = plain(spec, count)
        if not parts:
            return replace(made, sizes=(count,))
        finer = [len(one) for size in made.sizes for one in np.array_split(np.arange(size), min(parts, size))]
        return replace(made, sizes=tuple(finer))

    return make


def plain(spec: BackboneSpec, count: int) -> HashedResidual:
    return make_residual(spec, count, 1, torch.device("cpu"))


def of_kind(kind: type[HashedResidual]) -> Make:
    def make(spec: BackboneSpec, count: int) -> HashedResidual:
        made = plain(spec, count)
        return kind(made.bits, made.sizes, made.places)

    return make


SETTINGS: dict[str, Make] = {
    "as it is": plain,
    **{f"split by n^{power}": by_power(power) for power in (0.0, 0.25, 0.5, 1.0)},
    **{f"hash over {unit}": of_unit(unit) for unit in (
        "row", "column", "4 weights of a row", "16 weights of a row", "4 rows", "4 x 4 weights")},
    "one scale for all layers": with_scales(0),
    "4 scales a layer": with_scales(4),
    "on the combination": of_kind(OnCombination),
    "not times the sign of W": of_kind(Added),
    "one bit only after": of_kind(RoundedAfter),
}  # fmt: skip


def main(data_dir: Path, folder: Path, path: Path) -> None:
    banks = {}
    for stream, reference in BASES.items():
        bank = folder / f"{stream}.impress"
        create_bank(bank, [reference], masks=Masks(density=0.2), fit=MaskTraining(holdout=HOLDOUT), data_dir=data_dir)
        banks[stream] = load_bank(open_bank(bank), torch.device("cpu"))
    with path.open("a", newline="") as file:
        out = csv.writer(file)
        for seed in range(SEEDS):
            for stream, loaded in banks.items():
                for key in NEW[stream]:
                    data = load_task(parse_reference(f"{stream}-mnist/{key}"), data_dir=data_dir, holdout=HOLDOUT)
                    for size in SIZES[stream]:
                        for name, make in SETTINGS.items():
                            residual = make(loaded.bank.backbone, 8 * size)
                            asked = TaskTraining(epochs=EPOCHS, seed=substream_seed(seed, f"settings/{key}"))
                            fit = task_training(asked.record(len(data.train), residual=residual.count))
                            backbone = loaded.backbone
                            start = first_values(residual, fit.seed, 0.1)
                            parts = [
                                trainable_alpha(loaded.basis, fit, 1, None, "float32"),
                                trainable_residual(residual, backbone.weights, start),
                            ]
                            train_parts(backbone, parts, data.train, fit, on_step=lambda: None)
                            weights = residual.add_to(
                                effective_weights(loaded.basis, parts[0].learned()),
                                backbone.weights,
                                residual.rounded(parts[1].learned()),
                            )
                            share = accuracy(loaded.backbone, weights, data.validation)
                            out.writerow((stream, key, seed, size, name, f"{share:.4f}"))
                            file.flush()
                            print(time.strftime("%H:%M:%S"), stream, key, seed, size, name, f"{share:.4f}", flush=True)


def table(path: Path) -> None:
    """The means over tasks and seeds, a line a setting."""
    found: dict[str, dict[str, list[float]]] = {}
    for stream, _, _, size, name, share in csv.reader(path.open()):
        found.setdefault(name, {}).setdefault(f"{stream} {size} B", []).append(100 * float(share))
    for name, columns in found.items():
        print("|", name, *(f"| {sum(one) / len(one):.2f}" for one in columns.values()), "|")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--csv", type=Path, default=Path("residual.csv"))
    asked = parser.parse_args()
    main(asked.data_dir, asked.folder, asked.csv)
    table(asked.csv)
