"""One training step of others' modules beside ours, on the layers of LeNet-300-100, batch 128, one core.

    git clone https://github.com/RAIVNLab/supsup && git -C supsup checkout 6a31878
    pip install peft
    python tests/benchmarks/peers.py --supsup supsup

SupSup's MultitaskMaskConv (1 x 1 convolutions, as its LeNet has them) trains a mask, and combines masks that it has
cached; peft's LoRA, VeRA and Uni-LoRA are laid over the dense network. A plain step trains all weights by SGD. Ratios
of CPU time, medians of rounds in which all take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from peft import LoraConfig, PeftConfig, UniLoraConfig, VeraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from impress_learn.masks.basis import effective_weights, make_basis
from impress_learn.masks.edge_popup import edge_popup, initial_scores, random_supermask
from impress_learn.network.build import build_backbone
from impress_learn.parts.residual import first_values, make_residual, trainable_residual
from impress_learn.parts.table import nothing
from impress_learn.training.config import MaskTraining, TaskTraining
from impress_learn.training.optimizer import make_step

_DENSITY, _BATCH, _BITS = 0.1, 128, 4096
_ROUNDS, _STEPS = 9, 8
_LAYERS = ((784, 300), (300, 100), (100, 10))
Step = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supsup", type=Path, required=True)
    parser.add_argument("--masks", type=int, nargs="*", default=[10, 100, 250])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    steps = dict(_ours(chosen.masks))
    steps |= dict(_supsup(chosen.supsup, chosen.masks))
    steps |= dict(_peft())
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(_ROUNDS):
        for name, step in steps.items():
            step()  # after another method's, whose memory is in the caches
            started = time.process_time()
            for _ in range(_STEPS):
                step()
            rounds[name].append((time.process_time() - started) / _STEPS)
    plain = statistics.median(rounds["plain"])
    print("| step | ms | times plain |\n|---|---|---|")
    for name, times in rounds.items():
        print(f"| {name} | {1e3 * statistics.median(times):.1f} | {statistics.median(times) / plain:.2f} |")


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_BATCH, 1, 28, 28, generator=generator)
    return images, torch.randint(0, 10, (_BATCH,), generator=generator)


def _trained(logits: Callable[[], Tensor], fit: MaskTraining | TaskTraining, parameters: list[Tensor]) -> Step:
    labels, move = _data()[1], make_step(fit, parameters)

    def step() -> None:
        cross_entropy(logits(), labels).backward()
        move(1e-4)

    return step


def _ours(counts: list[int]) -> Iterator[tuple[str, Step]]:
    backbone = build_backbone("lenet-300-100", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    images, _ = _data()
    weights = backbone.weights
    dense = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    yield "plain", _trained(lambda: backbone(dense, images), MaskTraining(), [*dense.values()])
    generator = torch.Generator().manual_seed(0)
    scores = {name: initial_scores(weight.shape, generator).requires_grad_() for name, weight in weights.items()}

    def popped() -> dict[str, Tensor]:
        return {
            name: edge_popup(scores[name], weight, round(_DENSITY * weight.numel())) for name, weight in weights.items()
        }

    yield "impress: mask", _trained(lambda: backbone(popped(), images), MaskTraining(), [*scores.values()])
    for count in counts:
        masks = [random_supermask(backbone.spec, density=_DENSITY, seed=seed) for seed in range(count)]
        basis, alpha = make_basis(backbone, masks), torch.full((count, 3), 1.0 / count, requires_grad=True)

        def logits(basis: Any = basis, alpha: Tensor = alpha) -> Tensor:
            return backbone(effective_weights(basis, alpha), images)

        yield f"impress: alpha, K = {count}", _trained(logits, TaskTraining(), [alpha])
    residual = make_residual(backbone.spec, _BITS, 1, torch.device("cpu"))
    part = trainable_residual(residual, weights, first_values(residual, 0, 0.5))
    laid = nothing(weights)
    yield (
        f"impress: residual of {_BITS:,} values",
        _trained(lambda: backbone(part.add(laid), images), TaskTraining(), [*part.parameters]),
    )


def _supsup(checkout: Path, counts: list[int]) -> Iterator[tuple[str, Step]]:
    """Its module as it is: what it reads from a command line is given, and its other modules are not imported."""
    settings = types.SimpleNamespace(num_tasks=1, sparsity=1 - _DENSITY, train_weight_tasks=0)
    sys.modules["args"] = types.ModuleType("args")
    sys.modules["args"].args = settings  # type: ignore[attr-defined]
    sys.modules["models"] = types.ModuleType("models")
    sys.modules["models"].__path__ = [str(checkout / "models")]
    from models.modules import MultitaskMaskConv  # type: ignore[import-not-found]

    images = _data()[0].view(_BATCH, 784, 1, 1)

    def network() -> Any:
        layers = [MultitaskMaskConv(inputs, outputs, 1, bias=False) for inputs, outputs in _LAYERS]
        return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2], nn.Flatten())

    masked = network()
    for layer in masked[::2]:
        layer.task = 0
    scores = [parameter for parameter in masked.parameters() if parameter.requires_grad]
    yield "SupSup: mask", _trained(lambda: masked(images), MaskTraining(), list(scores))
    for count in counts:
        settings.num_tasks = count
        superposed, alphas = network(), list[Tensor]()
        for layer in superposed[:5:2]:
            layer.task, layer.num_tasks_learned = -1, count
            with torch.no_grad():
                layer.cache_masks()
            alphas.append(torch.full((count, 1, 1, 1, 1), 1.0 / count, requires_grad=True))
            layer.alphas = alphas[-1]
            layer.scores.requires_grad_(False)
        yield f"SupSup: alpha, K = {count}", _trained(partial(superposed, images), TaskTraining(), alphas)


def _peft() -> Iterator[tuple[str, Step]]:
    images = _data()[0].flatten(1)
    names = ["0", "2", "4"]
    ways: dict[str, PeftConfig] = {
        "peft: LoRA, rank 4": LoraConfig(r=4, target_modules=names),
        "peft: VeRA, rank 256": VeraConfig(r=256, target_modules=names),
        f"peft: Uni-LoRA, rank 4, {_BITS:,} values": UniLoraConfig(r=4, theta_d_length=_BITS, target_modules=names),
    }
    for name, config in ways.items():
        linear = [nn.Linear(inputs, outputs, bias=False) for inputs, outputs in _LAYERS]
        plain = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])
        network: Any = get_peft_model(plain, config)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        yield name, _trained(partial(network, images), TaskTraining(), list(trained))


if __name__ == "__main__":
    main()
