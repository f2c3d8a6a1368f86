"""Time of one training step, side by side: plain, edge-popup, alpha, a residual, and alpha of many tasks together.
`make bench` prints the table.

The limit is a plain step of the same network with the same data handling and optimiser. The straightforward
method is the published one as it is usually written: scores sorted at every step; a Python loop over float masks.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, and before torch is imported

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impress_learn.masks.basis import effective_weights, make_basis
from impress_learn.masks.edge_popup import _EdgePopup, initial_scores, random_supermask
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone
from impress_learn.parts.residual import first_values, make_residual, trainable_residual
from impress_learn.parts.table import nothing
from impress_learn.streams.images import NormalisedImages
from impress_learn.tasks.alphas import Learning, fit_alphas
from impress_learn.training.config import TaskTraining

_DENSITY = 0.1
_BATCH = 128
_BITS = 4096
_ROUNDS, _STEPS = 9, 40


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    backbone = build_backbone("lenet-300-100", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    images = torch.randn(_BATCH, 1, 28, 28, generator=generator)
    labels = torch.randint(0, 10, (_BATCH,), generator=generator)

    def step(weights_of: Callable[[], Mapping[str, Tensor]], parameters: list[Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)

        def run() -> None:
            optimizer.zero_grad()
            cross_entropy(backbone(weights_of(), images), labels).backward()
            optimizer.step()

        return run

    dense = {name: weight.clone().requires_grad_() for name, weight in backbone.weights.items()}
    steps = {"plain": step(lambda: dense, list(dense.values()))}
    steps |= _mask_steps(backbone, step, generator)
    for masks in (10, 50, 100, 250):
        steps |= _alpha_steps(backbone, step, masks)
    steps |= _residual_step(backbone, step)
    for masks, tasks in ((10, 8), (100, 8)):
        steps |= _together(backbone, images, masks, tasks)
    _print(_measure(steps))


def _mask_steps(
    backbone: Backbone,
    step: Callable[[Callable[[], Mapping[str, Tensor]], list[Tensor]], Callable[[], None]],
    generator: torch.Generator,
) -> dict[str, Callable[[], None]]:
    scores = [initial_scores(weight.shape, generator).requires_grad_() for weight in backbone.weights.values()]
    ones = [round(_DENSITY * weight.numel()) for weight in backbone.weights.values()]

    def selected() -> dict[str, Tensor]:
        layers = zip(backbone.weights.items(), scores, ones, strict=True)
        return {name: _EdgePopup.apply(score, weight, k) for (name, weight), score, k in layers}

    def sorted_() -> dict[str, Tensor]:
        effective = {}
        for (name, weight), score, k in zip(backbone.weights.items(), scores, ones, strict=True):
            order = score.detach().abs().flatten().argsort(descending=True)
            mask = torch.zeros(weight.numel()).index_fill_(0, order[:k], 1.0).reshape(weight.shape)
            effective[name] = weight * (mask + score.abs() - score.abs().detach())  # straight through
        return effective

    return {"edge-popup": step(selected, scores), "edge-popup, straightforward": step(sorted_, scores)}


def _alpha_steps(
    backbone: Backbone,
    step: Callable[[Callable[[], Mapping[str, Tensor]], list[Tensor]], Callable[[], None]],
    count: int,
) -> dict[str, Callable[[], None]]:
    masks = [random_supermask(backbone.spec, density=_DENSITY, seed=seed) for seed in range(count)]
    basis = make_basis(backbone, masks)
    alpha = torch.full((count, 3), 1.0 / count, requires_grad=True)
    floats = [{name: mask.float() for name, mask in layers.items()} for layers in masks]

    def looped() -> dict[str, Tensor]:
        return {
            name: sum((alpha[k, i] * floats[k][name] for k in range(count)), torch.zeros(())) * weight
            for i, (name, weight) in enumerate(backbone.weights.items())
        }

    return {
        f"alpha, K = {count}": step(lambda: effective_weights(basis, alpha), [alpha]),
        f"alpha, K = {count}, straightforward": step(looped, [alpha]),
    }


def _residual_step(
    backbone: Backbone, step: Callable[[Callable[[], Mapping[str, Tensor]], list[Tensor]], Callable[[], None]]
) -> dict[str, Callable[[], None]]:
    residual = make_residual(backbone.spec, _BITS, 1, torch.device("cpu"))
    part = trainable_residual(residual, backbone.weights, first_values(residual, 0, 0.5))
    return {f"residual of {_BITS:,} bits": step(lambda: part.add(nothing(backbone.weights)), [*part.parameters])}


def _together(backbone: Backbone, images: Tensor, masks: int, tasks: int) -> dict[str, Callable[[], None]]:
    """Of one of the tasks that are learned together."""
    basis = make_basis(
        backbone, [random_supermask(backbone.spec, density=_DENSITY, seed=seed) for seed in range(masks)]
    )
    labels = torch.arange(_BATCH) % 10
    train = NormalisedImages(images, labels, (0.0,), (1.0,))
    learning = [Learning(str(seed), train, seed) for seed in range(tasks)]

    def run() -> None:
        fit_alphas(
            backbone, basis, learning, TaskTraining(), steps=_STEPS // tasks, granularity=1, on_step=lambda: None
        )

    return {f"alpha, K = {masks}, of {tasks} tasks together": run}


def _measure(steps: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """Median CPU seconds a step, the methods taking turns so that a busy machine slows all alike."""
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(_ROUNDS):
        for name, run in steps.items():
            started = time.process_time()
            for _ in range(1 if name.endswith("together") else _STEPS):  # of which one is as many steps
                run()
            rounds[name].append((time.process_time() - started) / _STEPS)
    return {name: statistics.median(times) for name, times in rounds.items()}


def _print(seconds: Mapping[str, float]) -> None:
    print(f"LeNet-300-100, batch {_BATCH}, density {_DENSITY}; {platform.processor() or platform.machine()}, "
          f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")  # fmt: skip
    print("| step | ms | times plain | straightforward, times this |\n|---|---|---|---|")
    for name, value in seconds.items():
        if name.endswith("straightforward"):
            continue
        other = seconds.get(f"{name}, straightforward")
        slower = f"{other / value:.1f}" if other else ""
        print(f"| {name} | {value * 1e3:.2f} | {value / seconds['plain']:.2f} | {slower} |")


if __name__ == "__main__":
    main()
