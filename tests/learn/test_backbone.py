"""The frozen network: the same bits from the same seed, and a forward pass that a few lines of NumPy repeat."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from impress_format.errors import BackboneMismatch, UsageError
from impress_format.records.manifest import MadeWith
from impress_format.records.network import LENET
from impress_learn.masks.edge_popup import random_supermask, train_supermask
from impress_learn.network import build as build_module
from impress_learn.network.backbone import Backbone, bind
from impress_learn.network.build import build_backbone, rebuild_backbone
from impress_learn.network.norm_statistics import logits_beside, statistics_apart, with_statistics
from impress_learn.streams.images import Images
from impress_learn.training.config import MaskTraining

Init = Literal["signed-constant", "kaiming-normal"]

LENET_DIGESTS: list[tuple[Init, int, str]] = [
    ("signed-constant", 0, "220e660addc852cc2fddfba0b0ac49b2c516741afd2077b48298e197a5347443"),
    ("signed-constant", 1, "758205faafc4fd5acaf4d783b55e4016a03777bf318a6d70761a704df3e29e7a"),
    ("kaiming-normal", 0, "32d8388a89625e5fbc99a8312e0a149eaa86f17276f3ecd0b5fd472c4c0278ad"),
    ("kaiming-normal", 1, "8d14dfd7e5a434f9a464b6e706d8f9e7c957716b4fa594731dcac9a830ba5baa"),
]
RESNET18_DIGEST = "3d7e256f7d5269b3b301eb6a67faaae1e5ba26a6a694f181733cb9f2df22ce38"
RESNET18_28_DIGEST = "ecee9588cae9006b018495d0cfbc8270e4f07df3bfa616e048b6abe3e927d6c1"
VIT_TINY_DIGEST = "65c237ca0d20084ff16346f2d41a65dad972d3a062f314753853ca1012e9bd61"


def build(
    arch: str, *, shape: tuple[int, int, int] = (1, 28, 28), init: Init = "signed-constant", seed: int = 0
) -> Backbone:
    return build_backbone(arch, init=init, seed=seed, input_shape=shape, classes=10)


@pytest.fixture(scope="module")
def resnet18() -> Backbone:
    return build("timm:resnet18")


def half_of(backbone: Backbone) -> dict[str, Tensor]:
    """Effective weights under one random mask of density one half."""
    masks = random_supermask(backbone.spec, density=0.5, seed=1)
    return {name: weight * masks[name] for name, weight in backbone.weights.items()}


def test_lenet_300_100_has_266200_weights_in_three_layers(lenet: Backbone) -> None:
    assert [(layer.name, layer.shape) for layer in lenet.spec.masked_layers] == [
        ("fc1.weight", (300, 784)),
        ("fc2.weight", (100, 300)),
        ("fc3.weight", (10, 100)),
    ]
    assert lenet.spec.weights == 266_200
    assert sum(parameter.numel() for parameter in lenet.module.parameters()) == 266_200


@pytest.mark.parametrize(("init", "seed", "digest"), LENET_DIGESTS)
def test_lenet_comes_out_with_its_golden_digest(init: Init, seed: int, digest: str) -> None:
    assert build(LENET, init=init, seed=seed).spec.digest == digest


def test_resnet18_comes_out_with_its_golden_digest(resnet18: Backbone) -> None:
    assert resnet18.spec.digest == RESNET18_28_DIGEST
    assert build("timm:resnet18", shape=(3, 224, 224)).spec.digest == RESNET18_DIGEST


def test_vit_tiny_comes_out_with_its_golden_digest() -> None:
    assert build("timm:vit_tiny_patch16_224", shape=(3, 224, 224)).spec.digest == VIT_TINY_DIGEST


def test_digest_does_not_depend_on_the_global_seed() -> None:
    torch.manual_seed(12345)
    np.random.seed(12345)
    assert build(LENET).spec.digest == LENET_DIGESTS[0][2]


def test_digest_does_not_depend_on_the_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert build(LENET).spec.digest == LENET_DIGESTS[0][2]
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_nothing_of_timms_own_random_initialisation_is_left(name: str) -> None:
    torch.manual_seed(1)
    one = build(f"timm:{name}", shape=(3, 160, 160)).module.state_dict()
    torch.manual_seed(2)
    other = build(f"timm:{name}", shape=(3, 160, 160)).module.named_parameters()
    assert all(torch.equal(parameter, one[name]) for name, parameter in other)


def test_signed_constant_weights_are_plus_or_minus_he_deviation(lenet: Backbone) -> None:
    for weight in lenet.weights.values():
        constant = np.float32(math.sqrt(2.0 / weight.shape[1]))
        assert set(np.unique(weight.numpy())) == {-constant, constant}
        assert abs(float((weight > 0).double().mean()) - 0.5) < 4.0 * 0.5 / math.sqrt(weight.numel())


def test_kaiming_normal_weights_have_he_deviation() -> None:
    for weight in build(LENET, init="kaiming-normal").weights.values():
        scaled = weight.double() / math.sqrt(2.0 / weight.shape[1])
        assert abs(float(scaled.mean())) < 4.0 / math.sqrt(weight.numel())
        assert abs(float(scaled.std()) - 1.0) < 4.0 / math.sqrt(2.0 * weight.numel())


def test_logits_equal_a_numpy_forward_pass(lenet: Backbone, digits: tuple[Images, Images]) -> None:
    images, _ = digits[0].batch(slice(0, 16))
    first, second, third = (
        weight.double().numpy() * mask.numpy()
        for weight, mask in zip(
            lenet.weights.values(), random_supermask(lenet.spec, density=0.3, seed=2).values(), strict=True
        )
    )
    hidden = np.maximum(images.double().numpy().reshape(16, -1) @ first.T, 0.0)
    expected = np.maximum(hidden @ second.T, 0.0) @ third.T
    effective = {
        name: torch.from_numpy(array).float() for name, array in zip(lenet.weights, (first, second, third), strict=True)
    }
    np.testing.assert_allclose(lenet(effective, images).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_rebuilt_backbone_is_the_one_that_was_built(lenet: Backbone) -> None:
    again = rebuild_backbone(lenet.spec)
    assert again.spec == lenet.spec
    assert list(again.weights) == list(lenet.weights)
    assert all(torch.equal(again.weights[name], weight) for name, weight in lenet.weights.items())


def test_rebuild_refuses_another_digest_and_names_both(lenet: Backbone) -> None:
    changed = msgspec.structs.replace(lenet.spec, digest="0" * 64)
    with pytest.raises(BackboneMismatch) as caught:
        rebuild_backbone(changed)
    assert "0" * 64 in str(caught.value)
    assert LENET_DIGESTS[0][2] in str(caught.value)


def test_rebuild_names_the_releases_that_made_the_bank_and_those_here(lenet: Backbone) -> None:
    changed = msgspec.structs.replace(lenet.spec, digest="0" * 64)
    made = MadeWith(impress="0.1.0", torch="2.5.9", timm="0.9.2", numpy="1.0")
    with pytest.raises(
        BackboneMismatch, match=rf"made with timm 0.9.2 and torch 2.5.9; here are timm {timm.__version__}"
    ):
        rebuild_backbone(changed, made)


def test_rebuild_refuses_other_layers(lenet: Backbone) -> None:
    *layers, last = lenet.spec.layers
    changed = msgspec.structs.replace(lenet.spec, layers=(*layers, msgspec.structs.replace(last, name="fc9.weight")))
    with pytest.raises(BackboneMismatch):
        rebuild_backbone(changed)


def test_unknown_timm_name_suggests_near_ones() -> None:
    with pytest.raises(UsageError, match=r"no model 'resnt18'.*did you mean.*\bresnet18\b"):
        build("timm:resnt18")


@pytest.mark.parametrize("arch", ["resnet18", "timm:", "torchvision:resnet18", ""])
def test_unknown_architecture_names_what_there_is(arch: str) -> None:
    with pytest.raises(UsageError, match=r"unknown backbone .*lenet-300-100, resnet-18-nfN .* or timm:NAME"):
        build(arch)


@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_network_that_cannot_take_so_small_an_image_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"timm:{name} cannot take images of shape \(1, 28, 28\): ."):
        build(f"timm:{name}")


def test_network_that_timm_cannot_build_for_so_small_an_image_is_refused() -> None:
    with pytest.raises(UsageError):
        build("timm:test_maxvit")


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",
        "test_vit",
        "test_convnext",
        "test_efficientnet",
        "test_nfnet",  # has gains
        "test_efficientnet_evos",  # has EvoNorm, no class of torch's
    ],
)
def test_logits_of_the_whole_network_depend_on_the_image(name: str) -> None:
    backbone = build(f"timm:{name}", shape=(3, 160, 160))
    images = torch.randn(4, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert float(backbone(backbone.weights, images).std(0).mean()) > 1e-3


def test_vit_that_would_ignore_most_of_the_image_is_refused() -> None:
    with pytest.raises(UsageError, match=r"its patches do not fill them, so that it would see 16 × 16 of 28 × 28"):
        build("timm:vit_tiny_patch16_224", shape=(1, 28, 28))


def test_batch_norm_can_be_trained_on_single_images(digits: tuple[Images, Images]) -> None:
    """Statistics are those of the bank's images, however few there are in a batch."""
    backbone = build("timm:test_resnet", shape=(1, 28, 28))
    masks = train_supermask(
        backbone,
        digits[0].subset(torch.arange(2)),
        MaskTraining(epochs=1, batch_size=1),
        density=0.5,
        score_seed=0,
        on_step=lambda: None,
        calibration=digits[0].batch(slice(2, 10))[0],
    )
    assert all(mask.float().mean() == pytest.approx(0.5, abs=0.1) for mask in masks.values())


def test_lenet_needs_no_calibration(lenet: Backbone, resnet18: Backbone) -> None:
    assert not lenet.has_batch_norm
    assert resnet18.has_batch_norm


def in_float64(backbone: Backbone) -> Backbone:
    """Where rounding flips a ReLU, float32 is off by more than any mistake worth finding."""
    return bind(backbone.spec, copy.deepcopy(backbone.module).double())


def resnet18_in_plain_functions(weights: dict[str, Tensor], calibration: Tensor, images: Tensor) -> Tensor:
    """Logits of ResNet-18 for `images`, every norm using mean and variance of `calibration` at that place: that of the
    batch for `calibration` itself, and for `images` the unbiased one, as torch's running statistics are.

    He et al. 2016, Table 1 and Fig. 5: no line of timm or of the code under test. The norms have no scale or shift.
    """

    def norm(both: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        mean = both[0].mean((0, 2, 3), keepdim=True)
        first, second = (
            (part - mean) / torch.sqrt(both[0].var((0, 2, 3), keepdim=True, correction=correction) + 1e-5)
            for part, correction in zip(both, (0, 1), strict=True)
        )
        return first, second

    def conv(both: tuple[Tensor, Tensor], name: str, stride: int, padding: int) -> tuple[Tensor, Tensor]:
        first, second = (F.conv2d(part, weights[name], stride=stride, padding=padding) for part in both)
        return norm((first, second))

    def relu(both: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return both[0].clamp(min=0), both[1].clamp(min=0)

    x = relu(conv((calibration, images), "conv1.weight", 2, 3))
    x = (F.max_pool2d(x[0], 3, 2, 1), F.max_pool2d(x[1], 3, 2, 1))
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = conv(relu(conv(x, f"{name}.conv1.weight", stride, 1)), f"{name}.conv2.weight", 1, 1)
            if stride == 2:
                x = conv(x, f"{name}.downsample.0.weight", 2, 0)
            x = relu((x[0] + inner[0], x[1] + inner[1]))
    return x[1].mean((2, 3)) @ weights["fc.weight"].T


def test_calibrated_network_answers_for_one_image_as_batch_statistics_did(
    resnet18: Backbone, digits: tuple[Images, Images]
) -> None:
    backbone = in_float64(resnet18)
    effective = half_of(backbone)
    calibration = digits[0].batch(slice(0, 256))[0].double()
    images = digits[1].batch(slice(0, 6))[0].double()
    calibrated = with_statistics(backbone, effective, calibration)
    with torch.no_grad():
        alone = torch.cat([backbone(calibrated, image[None]) for image in images])
        expected = resnet18_in_plain_functions(effective, calibration, images)
    torch.testing.assert_close(alone, expected, rtol=1e-7, atol=1e-7)


def test_calibrated_network_gives_one_image_the_logits_it_had_in_the_batch(
    resnet18: Backbone, digits: tuple[Images, Images]
) -> None:
    effective = half_of(resnet18)
    batch, _ = digits[0].batch(slice(0, 256))
    with torch.no_grad():
        together = resnet18(effective, batch)
        calibrated = with_statistics(resnet18, effective, batch)
        alone = torch.cat([resnet18(calibrated, image[None]) for image in batch[:6]])
    torch.testing.assert_close(alone, together[:6], rtol=0.0, atol=0.02 * float(together.abs().max()))


def test_training_sees_the_logits_that_evaluation_sees(resnet18: Backbone, digits: tuple[Images, Images]) -> None:
    backbone = in_float64(resnet18)
    effective = half_of(backbone)
    calibration, images = (part.batch(slice(0, 64))[0].double() for part in digits)
    with torch.no_grad():
        found = logits_beside(backbone, effective, images, calibration)
        expected = backbone(with_statistics(backbone, effective, calibration), images)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("arch", "rows"),
    [
        ("timm:levit_128s", 64),  # its norms take a row for each token
        ("timm:efficientvit_m0", 4),  # and for each window
        ("timm:resnet18", 1),
    ],
)
def test_training_sees_the_logits_that_evaluation_sees_where_an_image_is_many_rows(arch: str, rows: int) -> None:
    backbone = in_float64(build(arch, shape=(3, 128, 128)))
    found: list[int] = []
    hooks = [
        backbone.module.get_submodule(path).register_forward_pre_hook(lambda _, given: found.append(len(given[0]) // 5))
        for path in backbone.norms
    ]
    calibration, images = torch.randn(
        5, 3, 128, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).split([3, 2])
    with torch.no_grad():
        trained = logits_beside(backbone, backbone.weights, images, calibration)
        assert max(found) == rows
        for hook in hooks:
            hook.remove()
        answered = backbone(with_statistics(backbone, backbone.weights, calibration), images)
    torch.testing.assert_close(trained, answered, rtol=1e-9, atol=1e-9)
    assert statistics_apart(backbone) < 1e-9


def test_network_whose_norms_take_rows_of_no_whole_images_is_refused(resnet18: Backbone) -> None:
    effective = half_of(resnet18)
    hook = resnet18.module.get_submodule("layer4").register_forward_pre_hook(lambda _, given: (given[0][1:],))
    try:
        with torch.no_grad(), pytest.raises(UsageError, match="takes 4 rows of 5 images, expected a whole number"):
            logits_beside(resnet18, effective, torch.randn(2, 1, 28, 28), torch.randn(3, 1, 28, 28))
    finally:
        hook.remove()


def test_network_that_mixes_images_up_before_a_norm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    structure = build_module.structure

    def mixing(arch: str, input_shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
        module = structure(arch, input_shape, classes)
        module.get_submodule("bn1").register_forward_pre_hook(lambda _, given: (given[0].flip(0),))
        return module

    monkeypatch.setattr(build_module, "structure", mixing)
    with pytest.raises(UsageError, match="BatchNorm takes rows that are not those of one image after the other"):
        build("timm:resnet18")


def test_gradients_of_training_flow_through_the_statistics(resnet18: Backbone, digits: tuple[Images, Images]) -> None:
    backbone = in_float64(resnet18)
    calibration, images = (part.batch(slice(0, 16))[0].double() for part in digits)
    labels = digits[1].batch(slice(0, 16))[1]

    def gradient_of(forward: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
        weights = {name: weight.clone().requires_grad_() for name, weight in half_of(backbone).items()}
        F.cross_entropy(forward(weights), labels).backward()
        return torch.cat([weight.grad.flatten() for weight in weights.values() if weight.grad is not None])

    found = gradient_of(lambda weights: logits_beside(backbone, weights, images, calibration))
    expected = gradient_of(lambda weights: resnet18_in_plain_functions(weights, calibration, images))
    assert len(found) == backbone.spec.weights
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_hooks_of_training_are_gone_afterwards(resnet18: Backbone, digits: tuple[Images, Images]) -> None:
    effective, (images, _) = half_of(resnet18), digits[0].batch(slice(0, 64))
    with torch.no_grad():
        before = resnet18(effective, images)
        with pytest.raises(RuntimeError):
            logits_beside(resnet18, effective, images[:, :, :1, :1].expand(-1, 3, -1, -1), images[:, :, :1, :1])
        logits_beside(resnet18, effective, images, images)
        assert torch.equal(resnet18(effective, images), before)


def test_calibration_forgets_the_images_and_weights_before(resnet18: Backbone, digits: tuple[Images, Images]) -> None:
    effective = half_of(resnet18)
    calibration, _ = digits[0].batch(slice(0, 64))
    image, _ = digits[1].batch(slice(0, 1))
    with torch.no_grad():
        calibrated = with_statistics(resnet18, effective, calibration)
        first = resnet18(calibrated, image)
        with_statistics(resnet18, resnet18.weights, calibration.flip(3) * 3.0)
        assert torch.equal(resnet18(calibrated, image), first)
        again = with_statistics(resnet18, effective, calibration)
        assert torch.equal(resnet18(again, image), first)


def test_frozen_weights_are_the_same_after_training_and_calibration(digits: tuple[Images, Images]) -> None:
    backbone = build("timm:test_resnet", shape=(1, 28, 28))
    before = {name: parameter.clone() for name, parameter in backbone.module.named_parameters()}
    masks = train_supermask(
        backbone,
        digits[0].subset(torch.arange(64)),
        MaskTraining(epochs=2, batch_size=32, lr=1.0),
        density=0.5,
        score_seed=0,
        on_step=lambda: None,
    )
    with_statistics(
        backbone, {name: w * masks[name] for name, w in backbone.weights.items()}, digits[0].batch(slice(0, 64))[0]
    )
    assert all(torch.equal(parameter, before[name]) for name, parameter in backbone.module.named_parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in backbone.weights.items())
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
