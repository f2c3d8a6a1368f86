"""A batch of timm's families, each whole: which layers are masked, and a step of learning alpha through it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from impress_learn.masks.basis import effective_weights, make_basis
from impress_learn.masks.edge_popup import random_supermask
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone

CLASSES = 10
SIDES = {"vit_tiny_patch16_224": 224}
"""Convolutional networks are run on 64x64, to be quick; the ViT has its size built in."""

PARAMETERS = {
    "resnet18": (11_689_512, 512),
    "resnet50": (25_557_032, 2048),
    "vgg16": (138_357_544, 4096),
    "wide_resnet50_2": (68_883_240, 2048),
    "mobilenetv3_small_100": (2_542_856, 1024),
    "vit_tiny_patch16_224": (5_717_416, 192),
    "convnext_atto": (3_695_520, 320),
}
"""Trainable parameters with 1,000 classes at 224x224 (torchvision's and timm's model tables), and the width of the
last layer, whose 990 rows for the classes not here are to be taken off, biases included."""

SLOW = {"vgg16"}
"""138 million weights take a minute to be drawn and masked."""
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PARAMETERS]


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest) -> Iterator[tuple[str, Backbone]]:
    """The network, built once for all tests of this file and let go before the next is built."""
    side = SIDES.get(request.param, 64)
    arch = f"timm:{request.param}"
    yield (
        request.param,
        build_backbone(arch, init="signed-constant", seed=0, input_shape=(3, side, side), classes=CLASSES),
    )
    gc.collect()


def test_masked_layers_are_the_conv_and_linear_weights_in_module_order(built: tuple[str, Backbone]) -> None:
    name, backbone = built
    plain = timm.create_model(name, num_classes=CLASSES)
    expected = [
        (f"{path}.weight", tuple(module.weight.shape))
        for path, module in plain.named_modules()
        if type(module).__name__.startswith("Linear")
        or isinstance(module, nn.Linear)
        or "Conv2d" in {base.__name__ for base in type(module).__mro__}
    ]
    assert [(layer.name, layer.shape) for layer in backbone.spec.masked_layers] == expected
    assert list(backbone.weights) == [name for name, _ in expected]


def test_network_has_the_published_number_of_parameters(built: tuple[str, Backbone]) -> None:
    name, backbone = built
    published, width = PARAMETERS[name]
    assert sum(p.numel() for p in backbone.module.parameters()) == published - 990 * (width + 1)


def test_weights_and_constants_are_all_the_parameters_there_are(built: tuple[str, Backbone]) -> None:
    _, backbone = built
    drawn = {layer.name for layer in backbone.spec.layers}
    rest = {name: p for name, p in backbone.module.named_parameters() if name not in drawn}
    assert all(bool((p == p.flatten()[0]).all()) and float(p.flatten()[0]) in {0.0, 1.0} for p in rest.values())
    assert not any(p.requires_grad for p in backbone.module.parameters())


def test_alpha_over_two_random_masks_gets_a_gradient_in_every_layer(built: tuple[str, Backbone]) -> None:
    _, backbone = built
    basis = make_basis(backbone, [random_supermask(backbone.spec, density=0.3, seed=seed) for seed in (1, 2)])
    alpha = torch.full((2, len(backbone.weights)), 0.5, requires_grad=True)
    images = torch.randn(2, *backbone.spec.input_shape, generator=torch.Generator().manual_seed(0))

    logits = backbone(effective_weights(basis, alpha), images)
    assert logits.shape == (2, CLASSES)
    assert bool(logits.isfinite().all())

    cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert alpha.grad is not None
    assert bool(alpha.grad.isfinite().all())
    assert bool((alpha.grad != 0).all())
