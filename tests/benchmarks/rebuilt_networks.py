"""How far logits of one network are apart from kernel to kernel, and how far a small change of it moves them.

    python tests/benchmarks/rebuilt_networks.py

For docs/results, "Rebuilt networks": the tolerance of impress_learn/network/probe.py. Numbers are the greatest
difference over the largest logit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from impress_learn.network.backbone import Backbone, bind
from impress_learn.network.build import build_backbone
from impress_learn.network.probe import probe_images

NETWORKS = {
    "lenet-300-100": (1, 28, 28),
    "timm:test_resnet": (3, 32, 32),
    "timm:resnet18": (3, 64, 64),
    "timm:resnet50": (3, 96, 96),
    "timm:efficientnet_lite0": (3, 96, 96),
    "timm:mobilenetv3_small_100": (3, 96, 96),
    "timm:convnext_atto": (3, 96, 96),
    "timm:vit_tiny_patch16_224": (3, 224, 224),
    "timm:vgg16": (3, 64, 64),
    "timm:densenet121": (3, 64, 64),
}


def logits(backbone: Backbone, images: Tensor) -> Tensor:
    with torch.no_grad():
        return backbone(backbone.weights, images).double()


def one_thread(backbone: Backbone, images: Tensor) -> Tensor:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return logits(backbone, images)
    finally:
        torch.set_num_threads(threads)


def no_onednn(backbone: Backbone, images: Tensor) -> Tensor:
    with torch.backends.mkldnn.flags(enabled=False):
        return logits(backbone, images)


def channels_last(backbone: Backbone, images: Tensor) -> Tensor:
    return logits(backbone, images.contiguous(memory_format=torch.channels_last))


def double(backbone: Backbone, images: Tensor) -> Tensor:
    return logits(bind(backbone.spec, copy.deepcopy(backbone.module).double()), images.double())


def epsilon(module: nn.Module) -> bool:
    layers = [layer for layer in module.modules() if isinstance(getattr(layer, "eps", None), float)]
    for layer in layers:
        layer.eps *= 10  # type: ignore[assignment,operator]
    return bool(layers)


def gelu(module: nn.Module) -> bool:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.GELU)]
    for layer in layers:
        layer.approximate = "tanh"
    return bool(layers)


def padding(module: nn.Module) -> bool:
    """One padding of the network wraps around."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str) and any(layer.padding):
            layer.padding_mode = "circular"
            layer._reversed_padding_repeated_twice = [side for side in reversed(layer.padding) for _ in range(2)]
            return True
    return False


KERNELS: tuple[Callable[[Backbone, Tensor], Tensor], ...] = (one_thread, no_onednn, channels_last, double)
CHANGES: tuple[Callable[[nn.Module], bool], ...] = (epsilon, gelu, padding)


def main() -> None:
    print(f"{'':28}" + "".join(f"{way.__name__:>15}" for way in (*KERNELS, *CHANGES)))
    for arch, shape in NETWORKS.items():
        backbone = build_backbone(arch, init="signed-constant", seed=0, input_shape=shape, classes=10)
        images = probe_images(backbone.spec)
        reference = logits(backbone, images)
        cells = [f"{relative(reference, way(backbone, images)):15.1e}" for way in KERNELS]
        for change in CHANGES:
            module = copy.deepcopy(backbone.module)
            changed = change(module)
            found = logits(bind(backbone.spec, module), images)
            cells.append(f"{relative(reference, found):15.1e}" if changed else f"{'':15}")
        print(f"{arch:28}" + "".join(cells), flush=True)


def relative(reference: Tensor, found: Tensor) -> float:
    return float((reference - found).abs().max() / reference.abs().max())


if __name__ == "__main__":
    main()
