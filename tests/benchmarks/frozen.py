"""How much faster a frozen pretrained network is when norm layers are folded and images laid out channels last.

    python tests/benchmarks/frozen.py [NAME [SIDE]]

All four in turns in one process, one thread: features; a step that moves the 1 x 1 convolutions of the last 95 % of
weights, as `bank create --adapt` does; a step that moves every convolution. Weights are drawn: only times count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping

import timm
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from impress_learn.network.folding import channels_last, fold_norms, trace

BATCH, TURNS = 64, 5


def least(turns: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each, the least of some turns, after one that does not count."""
    found = dict.fromkeys(turns, float("inf"))
    for turn in range(1 + TURNS):
        for name, run in turns.items():
            started = time.perf_counter()
            run()
            if turn:
                found[name] = min(found[name], 1e3 * (time.perf_counter() - started))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="efficientnet_lite0")
    parser.add_argument("side", nargs="?", type=int, default=96)
    asked = parser.parse_args()
    name, side = asked.name, asked.side
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=5).eval()
    folded = fold_norms(fx.GraphModule(module, trace(module)))
    images = torch.randn(BATCH, 3, side, side)
    weights = {path: one.detach().clone() for path, one in module.named_parameters() if one.ndim in (2, 4)}
    kernels = {path for path, one in weights.items() if one.ndim == 4}
    dense = {path for path, one in weights.items() if one.ndim == 4 and one.shape[1] > 1}

    def features(part: nn.Module, given: Tensor) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                functional_call(part, weights, (given,))

        return run

    def step(part: nn.Module, given: Tensor, moved: set[str]) -> Callable[[], object]:
        own = {path: one.clone().requires_grad_(path in moved) for path, one in weights.items()}
        wanted = [own[path] for path in sorted(moved)]
        return lambda: torch.autograd.grad(functional_call(part, own, (given,)).square().mean(), wanted)

    ways = {
        "as it is": (module, images),
        "channels last": (module, channels_last(images)),
        "folded": (folded, images),
        "folded, channels last": (folded, channels_last(images)),
    }
    print(f"{name}, {BATCH} images of {side} px, torch {torch.__version__}, one thread; milliseconds (times faster)")
    jobs: dict[str, Callable[[nn.Module, Tensor], Callable[[], object]]] = {
        "features": features,
        "a step, all but depthwise kernels": lambda part, given: step(part, given, dense),
        "a step, every kernel": lambda part, given: step(part, given, kernels),
    }
    for job, make in jobs.items():
        found = least({way: make(part, given) for way, (part, given) in ways.items()})
        first = found["as it is"]
        print(f"{job}: " + "; ".join(f"{way} {time:,.0f} ({first / time:.2f} x)" for way, time in found.items()))


if __name__ == "__main__":
    main()
