"""What each parameter of a network is: masked, drawn, or a constant; old banks keep what they were made with."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path

import msgspec
import pytest
import torch
from timm.layers import CondConv2d  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.func import functional_call

from impress_format.errors import FormatError
from impress_format.manifest import check_manifest
from impress_format.records.masks import supermask_sizes
from impress_format.records.network import BackboneSpec, LayerSpec
from impress_format.weights import backbone_digest, layer_weights
from impress_learn.jobs import create_bank
from impress_learn.masks.basis import effective_weights, make_basis
from impress_learn.masks.edge_popup import random_supermask
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone, rebuild_backbone
from impress_learn.network.parameters import (
    constant_parameters,
    drawn_layers,
    follow_swapped_weights,
    maskable_weights,
    rules_of,
)
from impress_learn.plan.asked import Masks, Network


@functools.cache
def build(arch: str, shape: tuple[int, int, int]) -> Backbone:
    return build_backbone(arch, init="signed-constant", seed=0, input_shape=shape, classes=10)


def layer_of(module: nn.Module, name: str = "weight") -> LayerSpec:
    rules = rules_of(module)
    return {layer.name: layer for layer in drawn_layers(module, rules, constant_parameters(module, rules))}[name]


def most_seen(module: nn.Module, images: Tensor) -> int:
    """Weights that the output which sees most of them depends on, by counting: all weights and inputs are 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
        output: Tensor = module(images)
    return int(output.max())


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(2, 2, 1), (4, 2, 1), (3, 2, 1), (4, 2, 2), (3, 1, 4)])
def test_fan_in_of_a_transposed_convolution_is_what_an_output_sees(kernel: int, stride: int, groups: int) -> None:
    module = nn.ConvTranspose2d(8, 12, kernel, stride, groups=groups, bias=False)
    layer = layer_of(module)
    assert layer.masked
    assert layer.shape == (8, 12 // groups, kernel, kernel)
    assert layer.acts_as is not None
    assert layer.acts_as[:2] == (12, 8 // groups)
    assert layer.fan_in == most_seen(module, torch.ones(1, 8, 9, 9))


def test_fan_in_of_a_bank_of_experts_is_that_of_one_of_them() -> None:
    module = CondConv2d(6, 10, 3, num_experts=4, groups=2)
    layer = layer_of(module)
    assert layer.masked
    assert layer.shape == (4, 10 * 3 * 9)
    assert layer.acts_as == (40, 3, 3, 3)
    constant = math.sqrt(2 / 27)
    assert layer_weights(0, "signed-constant", layer).max() == pytest.approx(constant)
    assert layer_weights(0, "kaiming-normal", layer).std() == pytest.approx(constant, rel=0.1)


def test_weights_of_recurrent_layers_are_masked_and_their_biases_are_not() -> None:
    module = nn.LSTM(3, 4, bidirectional=True)
    assert list(maskable_weights(module)) == [
        "weight_ih_l0",
        "weight_hh_l0",
        "weight_ih_l0_reverse",
        "weight_hh_l0_reverse",
    ]
    assert layer_of(module, "weight_ih_l0").fan_in == 3
    rules = rules_of(module)
    assert {name for name, value in constant_parameters(module, rules).items() if value == 0} == {
        name for name, _ in module.named_parameters() if "bias" in name
    }


def test_a_recurrent_layer_computes_with_the_weights_that_a_call_gives_it() -> None:
    module = nn.Sequential(nn.LSTM(3, 4, batch_first=True)).requires_grad_(False)
    follow_swapped_weights(module)
    images = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    given = {"0.weight_ih_l0": torch.zeros(16, 3, requires_grad=True)}
    before, during, after = module(images)[0], functional_call(module, given, (images,))[0], module(images)[0]
    expected = copy.deepcopy(module)
    with torch.no_grad():
        expected.get_parameter("0.weight_ih_l0").zero_()
    assert torch.equal(during, expected(images)[0])
    assert not torch.equal(during, before)
    assert torch.equal(after, before)
    during.sum().backward()
    gradient = given["0.weight_ih_l0"].grad
    assert gradient is not None
    assert bool((gradient != 0).any())


@pytest.mark.parametrize(
    ("arch", "shape"),
    [
        ("timm:tf_efficientnet_cc_b0_4e", (1, 28, 28)),
        ("timm:lowformer_b0", (3, 64, 64)),
        ("timm:sequencer2d_s", (1, 28, 28)),
    ],
)
def test_all_weights_of_unusual_layers_are_masked_and_learn(arch: str, shape: tuple[int, int, int]) -> None:
    backbone = build(arch, shape)
    assert backbone.spec.maskable_share == 1.0
    assert rebuild_backbone(backbone.spec).spec == backbone.spec
    masks = [random_supermask(backbone.spec, density=0.3, seed=seed) for seed in (1, 2)]
    alpha = torch.full((2, len(backbone.weights)), 0.5, requires_grad=True)
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    logits = backbone(effective_weights(make_basis(backbone, masks), alpha), images)
    assert float(logits.detach().std(0).mean()) > 1e-3
    logits.square().sum().backward()
    assert alpha.grad is not None
    assert bool((alpha.grad != 0).all())


def test_shifts_are_0_and_scales_1() -> None:
    backbone = build("timm:resmlp_12_224", (1, 32, 32))
    values = {name: one.unique().tolist() for name, one in backbone.module.named_parameters() if "norm" in name}
    assert values["blocks.0.norm1.alpha"] == [1.0]
    assert values["blocks.0.norm1.beta"] == [0.0]
    assert set(backbone.spec.zeros) == {name for name in values if name.endswith("beta")}
    assert build("timm:resnetv2_50d_frn", (3, 64, 64)).spec.zeros[0].endswith(".tau")


def as_before(spec: BackboneSpec) -> BackboneSpec:
    """As a release wrote it that masked Conv and Linear layers alone, and had no zeros but biases."""
    layers = tuple(
        msgspec.structs.replace(layer, masked=layer.acts_as is None and "weight_" not in layer.name, acts_as=None)
        for layer in spec.layers
    )
    digest = backbone_digest(spec.seed, spec.init, layers)
    return msgspec.structs.replace(spec, layers=layers, zeros=(), digest=digest)


@pytest.mark.parametrize(
    ("arch", "shape", "share"),
    [
        ("timm:tf_efficientnet_cc_b0_4e", (1, 28, 28), 0.108),
        ("timm:lowformer_b0", (3, 64, 64), 0.874),
        ("timm:sequencer2d_s", (1, 28, 28), 0.593),
        ("timm:resmlp_12_224", (1, 32, 32), 1.0),
    ],
)
def test_bank_that_was_made_before_keeps_its_masks_and_constants(
    arch: str, shape: tuple[int, int, int], share: float
) -> None:
    spec = build(arch, shape).spec
    old = rebuild_backbone(msgspec.structs.replace(as_before(spec), logits=None))
    held = dict(old.module.named_parameters())
    assert all(held[name].unique().tolist() == [1.0] for name in spec.zeros)
    assert list(old.weights) == [layer.name for layer in as_before(spec).masked_layers]
    assert old.spec.maskable_share == pytest.approx(share, abs=5e-4)
    assert msgspec.json.encode(old.spec).count(b'"acts_as"') == msgspec.json.encode(old.spec).count(b'"zeros"') == 0


def test_small_layers_stay_denser_beside_a_bank_of_experts() -> None:
    """Erdős–Rényi counts outputs and inputs: of (experts, all their weights) it would see millions of inputs."""
    layers = (
        LayerSpec(name="experts", shape=(4, 576 * 96), acts_as=(4 * 576, 96, 1, 1)),
        LayerSpec(name="plain", shape=(4 * 576, 96)),
    )
    experts, plain = supermask_sizes(layers, 0.1, "erdos-renyi")
    assert experts == plain


def test_version_1_knows_neither_zeros_nor_other_axes(tmp_path: Path) -> None:
    bank = create_bank(tmp_path / "b.impress", ["rotated-digits/0"], masks=Masks(masks_per_task=0, random_masks=1))
    spec = bank.backbone
    first, *rest = spec.layers
    for changed in (
        msgspec.structs.replace(spec, zeros=("fc1.beta",)),
        msgspec.structs.replace(spec, layers=(msgspec.structs.replace(first, acts_as=(300, 784)), *rest)),
    ):
        new = msgspec.structs.replace(bank.manifest, backbone=changed)
        check_manifest(bank.manifest_path, new)
        old = msgspec.structs.replace(
            new, format_version=1, recogniser=False, backbone=msgspec.structs.replace(changed, logits=None)
        )
        with pytest.raises(FormatError, match="which format version 1 does not know"):
            check_manifest(bank.manifest_path, old)
    named_twice = msgspec.structs.replace(bank.manifest, backbone=msgspec.structs.replace(spec, zeros=("fc1.weight",)))
    with pytest.raises(FormatError, match=r"fc1\.weight is among the layers that are drawn"):
        check_manifest(bank.manifest_path, named_twice)


def test_command_given_again_is_held_to_the_rules_that_its_bank_was_made_by(tmp_path: Path) -> None:
    """A bank of a release that masked less is complete, and is not refused as one of other settings."""
    path = tmp_path / "b.impress"

    def create() -> None:
        create_bank(
            path,
            ["rotated-digits/0"],
            network=Network(backbone="timm:tf_efficientnet_cc_b0_4e"),
            masks=Masks(masks_per_task=0, random_masks=1),
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("impress_learn.network.parameters._EXPERTS", "none")
        create()
    before = (path / "bank.json").read_bytes()
    assert b"acts_as" not in before
    create()
    assert (path / "bank.json").read_bytes() == before
