"""What a training step takes on a GPU, in time and in memory (docs/results/speed.md).

    python tests/benchmarks/gpu.py [--device cpu --small]

The narrow ResNet-18 at 32 px, and ResNet-50 at 224 px with 75 masks and batches of 96 images, as in the paper. A step
is forward, backward and the optimiser's; the ways take turns in one run, medians. --small: small enough for a CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impress_learn.masks.basis import Basis, effective_weights, make_basis
from impress_learn.masks.coded_masks import CodedMasks
from impress_learn.masks.edge_popup import edge_popup, initial_scores, random_supermask
from impress_learn.masks.layer_masks import PackedMasks, StackedMasks
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone
from impress_learn.network.norm_statistics import training_forward

_ROUNDS, _STEPS = 3, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    print(torch.cuda.get_device_name() if device.type == "cuda" else "CPU", torch.__version__)
    cases = [("resnet-18-nf20", 32, 15, 128), ("timm:resnet50", 224, 75, 96)]
    if chosen.small:
        cases = [("resnet-18-nf20", 32, 9, 8), ("timm:resnet50", 64, 9, 8)]
    for arch, side, masks, batch in cases:
        backbone = build_backbone(arch, init="signed-constant", seed=0, input_shape=(3, side, side), classes=10)
        supermasks = [random_supermask(backbone.spec, density=0.3, seed=seed) for seed in range(masks)]
        _measure(f"{arch}, {side} px, {masks} masks, batch {batch}", backbone.to(device), supermasks, batch)


def _measure(label: str, backbone: Backbone, supermasks: list[dict[str, Tensor]], batch: int) -> None:
    device = next(iter(backbone.weights.values())).device
    generator = torch.Generator().manual_seed(0)
    images, calibration = (
        torch.randn(count, *backbone.spec.input_shape, generator=generator).to(device) for count in (batch, 256)
    )
    labels = torch.randint(0, 10, (batch,), generator=generator).to(device)
    before = _in_use(device)
    basis = make_basis(backbone, supermasks)
    print(f"{label}: masks take {_bytes_of(basis) / 1e6:,.1f} MB ({(_in_use(device) - before) / 1e6:,.0f} MB in use)")
    alpha = torch.full((len(basis), len(backbone.weights)), 1 / len(basis), device=device, requires_grad=True)
    scores = [initial_scores(one.shape, generator).to(device).requires_grad_() for one in backbone.weights.values()]

    def popped() -> Mapping[str, Tensor]:
        layers = zip(backbone.weights.items(), scores, strict=True)
        return {name: edge_popup(one, weight, weight.numel() * 3 // 10) for (name, weight), one in layers}

    dense = {name: weight.clone().requires_grad_() for name, weight in backbone.weights.items()}

    def step(weights_of: Callable[[], Mapping[str, Tensor]], parameters: list[Tensor], bank: Tensor | None,
             bfloat16: bool) -> Callable[[], None]:  # fmt: skip
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        forward = training_forward(backbone, bank, 0, bfloat16=bfloat16)

        def run() -> None:
            optimizer.zero_grad()
            cross_entropy(forward(weights_of(), images), labels).backward()
            optimizer.step()

        return run

    ways = {
        f"{name}, {'bfloat16' if half else 'float32'}": step(weights_of, parameters, bank, half)
        for half in (False, True)
        for name, weights_of, parameters, bank in (
            ("plain", lambda: dense, list(dense.values()), None),
            ("plain, beside the bank's images", lambda: dense, list(dense.values()), calibration),
            ("edge-popup, beside the bank's images", popped, scores, calibration),
            ("alpha, beside the bank's images", lambda: effective_weights(basis, alpha), [alpha], calibration),
        )
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    peaks = dict.fromkeys(ways, 0)
    for _ in range(_ROUNDS):
        for name, run in ways.items():
            run()
            _wait(device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            for _ in range(_STEPS):
                run()
            _wait(device)
            times[name].append((time.perf_counter() - start) / _STEPS)
            if device.type == "cuda":
                peaks[name] = max(peaks[name], torch.cuda.max_memory_allocated())
    least = statistics.median(next(iter(times.values())))
    for name, taken in times.items():
        median = statistics.median(taken)
        print(
            f"  {name:52} {1000 * median:8.1f} ms {median / least:6.2f} x  peak {peaks[name] / 1e9:6.2f} GB", flush=True
        )


def _bytes_of(basis: Basis) -> int:
    kept: list[Tensor] = []
    for masks in basis.layers.values():
        match masks:
            case StackedMasks(stack):
                kept.append(stack)
            case CodedMasks(codes):
                kept.append(codes)
            case PackedMasks(ones, negative):
                kept.extend(one for one in (ones, negative) if one is not None)
    return sum(one.numel() * one.element_size() for one in kept)


def _in_use(device: torch.device) -> int:
    return int(torch.cuda.memory_allocated()) if device.type == "cuda" else 0


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
