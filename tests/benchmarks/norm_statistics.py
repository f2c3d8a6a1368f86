"""Whose statistics BatchNorm is trained under, and judged under: accuracy on test images (docs/results).

    python tests/benchmarks/norm_statistics.py

Four masks of turned digits, density .3, on a small ResNet; four new tasks, each as alpha, at granularity 16, and with
a residual of 4,096 bits. Trained under the statistics of each batch (as BatchNorm does by itself) or under those of the
bank's images; judged under those of the bank's images or of 256 images of the task itself. One seed; some 20 minutes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from impress_learn.masks.basis import Basis, make_basis
from impress_learn.masks.edge_popup import train_supermask
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.parts.alpha import trainable_alpha
from impress_learn.parts.part import Trainable
from impress_learn.parts.residual import first_values, make_residual, trainable_residual
from impress_learn.parts.table import nothing
from impress_learn.running.accuracy import accuracy
from impress_learn.streams.load import TaskData, load_task
from impress_learn.streams.reference import parse_reference
from impress_learn.tasks.weights import laid_over, train_parts
from impress_learn.training.config import MaskTraining, TaskTraining

BASIS = tuple(f"rotated-digits/{angle}" for angle in (0, 90, 180, 270))
NEW = ("rotated-digits/20", "rotated-digits/110", "permuted-digits/20", "permuted-digits/110")
IMAGES = 256
FIT = TaskTraining(epochs=50, seed=5)


def main() -> None:
    backbone = build_backbone("timm:test_resnet", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    data = {name: load_task(parse_reference(name), data_dir=None) for name in (*BASIS, *NEW)}
    of_bank = torch.cat([_some(data[name], IMAGES // len(BASIS)) for name in BASIS])
    for label, trained_under in (("its batch", None), ("the bank's images", of_bank)):
        masks = [_mask(backbone, data[name], number, trained_under) for number, name in enumerate(BASIS)]
        for name, mask in zip(BASIS, masks, strict=True):
            effective = {layer: weight * mask[layer] for layer, weight in backbone.weights.items()}
            _print(label, f"mask {name}", backbone, effective, data[name], of_bank)
        basis = make_basis(backbone, masks)
        for name in NEW:
            for part, parts in _parts(backbone, basis):
                train_parts(backbone, parts, data[name].train, FIT, on_step=lambda: None, calibration=trained_under)
                with torch.no_grad():
                    effective = laid_over(parts, nothing(backbone.weights))
                _print(label, f"{part} {name}", backbone, effective, data[name], of_bank)


def _parts(backbone: Backbone, basis: Basis) -> list[tuple[str, list[Trainable]]]:
    residual = make_residual(backbone.spec, 4096, 1, torch.device("cpu"))
    alpha, finer, beside = (trainable_alpha(basis, FIT, groups, None, "float32") for groups in (1, 16, 1))
    values = trainable_residual(residual, backbone.weights, first_values(residual, FIT.seed, 0.1))
    return [("alpha", [alpha]), ("alpha, G = 16", [finer]), ("4,096 bits", [beside, values])]


def _mask(backbone: Backbone, data: TaskData, number: int, trained_under: Tensor | None) -> dict[str, Tensor]:
    return train_supermask(
        backbone, data.train, MaskTraining(epochs=12, seed=number), density=0.3, score_seed=100 + number,
        on_step=lambda: None, calibration=trained_under,
    )  # fmt: skip


def _some(data: TaskData, count: int) -> Tensor:
    return data.train.batch(torch.linspace(0, len(data.train) - 1, count).long())[0]


def _print(
    label: str, what: str, backbone: Backbone, effective: dict[str, Tensor], data: TaskData, of_bank: Tensor
) -> None:
    under_bank, under_own = (
        accuracy(backbone, with_statistics(backbone, effective, images), data.test)
        for images in (of_bank, _some(data, IMAGES))
    )
    print(f"trained under {label}: {what}: {100 * under_bank:.1f} (own statistics {100 * under_own:.1f})", flush=True)


if __name__ == "__main__":
    main()
