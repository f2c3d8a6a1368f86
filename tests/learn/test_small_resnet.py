"""ResNet-18 for small images: the network of SupSup's and ImpressLearn's CIFAR runs, repeated here in plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from impress_format.errors import UsageError
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone, rebuild_backbone

NF20_DIGEST = "13bb7a3c4bb7446502aff9686fd7aefcc5790cb1134a0c5d0d3e04fe1d3e7212"


def build(arch: str, classes: int = 5, shape: tuple[int, int, int] = (3, 32, 32)) -> Backbone:
    return build_backbone(arch, init="signed-constant", seed=0, input_shape=shape, classes=classes)


def plain_resnet(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """He et al. 2016, Fig. 5 left and Table 1 with the CIFAR stem; non-affine BatchNorm over the batch, no bias."""

    def conv(name: str, inputs: Tensor, stride: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        outputs = F.conv2d(inputs, weight, stride=stride, padding=weight.shape[-1] // 2)
        return F.batch_norm(outputs, None, None, training=True)

    hidden = F.relu(conv("conv1", images))
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inside = conv(f"{name}.conv2", F.relu(conv(f"{name}.conv1", hidden, stride)))
            kept = conv(f"{name}.downsample.0", hidden, stride) if stride > 1 else hidden
            hidden = F.relu(inside + kept)
    return hidden.mean((2, 3)) @ weights["fc.weight"].T


@pytest.mark.parametrize("filters", [20, 64])
def test_it_has_the_published_number_of_weights_in_21_layers(filters: int) -> None:
    """1.09 M at nf = 20 (ImpressLearn, Table 2); 11.2 M at 64, less the biases and BatchNorm of He et al."""
    spec = build(f"resnet-18-nf{filters}").spec
    weights = 3 * filters * 9 + 4 * filters**2 * 9 + 8 * filters * 5
    for wide in (2 * filters, 4 * filters, 8 * filters):
        weights += (wide // 2 * wide + 3 * wide**2) * 9 + wide // 2 * wide
    assert len(spec.masked_layers) == 21
    assert spec.weights == weights
    assert all(layer.masked for layer in spec.layers)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_it_computes_what_its_paper_says(shape: tuple[int, int, int]) -> None:
    backbone = build("resnet-18-nf20", shape=shape)
    images = torch.randn(16, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = backbone(backbone.weights, images), plain_resnet(backbone.weights, images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_it_comes_out_the_same_on_every_machine() -> None:
    spec = build("resnet-18-nf20").spec
    assert spec.digest == NF20_DIGEST
    assert rebuild_backbone(spec).spec == spec


@pytest.mark.parametrize("arch", ["resnet-18-nf21", "resnet-18-nf1026"])
def test_a_width_that_it_cannot_have_is_named(arch: str) -> None:
    with pytest.raises(UsageError, match=rf"{arch}: expected an even number of filters, 2 to 1024"):
        build(arch)


@pytest.mark.parametrize("arch", ["resnet-18-nf0", "resnet-18-nf020", "resnet-18-nf", "resnet-18-nf99999"])
def test_no_other_name_is_of_this_family(arch: str) -> None:
    with pytest.raises(UsageError, match="unknown backbone"):
        build(arch)
