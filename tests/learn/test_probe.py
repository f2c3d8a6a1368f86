"""A network rebuilt from its seed must compute what it did, not only have the weights it had."""

from __future__ import annotations

import copy

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from impress_format.errors import BackboneMismatch
from impress_format.records.manifest import MadeWith
from impress_format.weights import backbone_digest, random_words
from impress_learn.network.backbone import Backbone, bind
from impress_learn.network.build import build_backbone, rebuild_backbone
from impress_learn.network.probe import TOLERANCE, check_logits, probe_images, releases

OLD = MadeWith(impress="0.1.0", torch="2.0.0", timm="0.9.0", numpy="1.26.0")
NOW = MadeWith(impress="0.1.0", torch=releases()[0], timm=releases()[1], numpy="1.26.0")


@pytest.fixture(scope="module")
def resnet() -> Backbone:
    return build_backbone("timm:test_resnet", init="signed-constant", seed=3, input_shape=(1, 28, 28), classes=10)


def test_probe_images_are_those_of_the_format() -> None:
    backbone = build_backbone("lenet-300-100", init="signed-constant", seed=5, input_shape=(1, 28, 28), classes=10)
    words = random_words(5, "probe", 8 * 784)
    expected = np.array([int(word) >> 40 for word in words]) * 2.0**-23 - 1.0
    assert np.array_equal(probe_images(backbone.spec).numpy().reshape(-1), expected)
    hidden = probe_images(backbone.spec).flatten(1).double().numpy()
    for weights in backbone.weights.values():
        hidden = np.maximum(hidden, 0) if weights.shape[1] != 784 else hidden
        hidden = hidden @ weights.double().numpy().T
    assert backbone.spec.logits == pytest.approx(hidden[:, :2].reshape(-1), rel=1e-4, abs=1e-4)


def test_a_network_that_is_the_same_passes(resnet: Backbone) -> None:
    for made in (OLD, NOW, None):
        rebuild_backbone(resnet.spec, made)
    check_logits(resnet.to(torch.device("cpu")), None)


def test_a_changed_padding_is_refused_under_other_releases_only(resnet: Backbone) -> None:
    module = copy.deepcopy(resnet.module)
    conv = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    conv.padding = (0, 0)
    changed = bind(resnet.spec, module)
    for made, words in ((OLD, r"made with timm 0\.9\.0 and torch 2\.0\.0"), (None, "made with other releases")):
        with pytest.raises(BackboneMismatch, match=words):
            check_logits(changed, made)
    check_logits(changed, NOW)


@pytest.mark.parametrize(("by", "refused"), [(0.5, False), (2.0, True), (float("nan"), True)])
def test_the_tolerance_is_that_of_the_largest_logit(resnet: Backbone, by: float, refused: bool) -> None:
    logits = resnet.spec.logits
    assert logits is not None
    largest = max(map(abs, logits))
    weight_delta = (logits[0] + by * TOLERANCE * largest, *logits[1:])
    other = bind(msgspec.structs.replace(resnet.spec, logits=weight_delta), resnet.module)
    if refused:
        with pytest.raises(BackboneMismatch):
            check_logits(other, OLD)
    else:
        check_logits(other, OLD)


def test_weights_of_one_output_are_drawn_and_maskable() -> None:
    backbone = build_backbone("lenet-300-100", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=1)
    assert list(backbone.weights) == ["fc1.weight", "fc2.weight", "fc3.weight"]
    assert backbone.weights["fc3.weight"].abs().unique().tolist() == [pytest.approx((2 / 100) ** 0.5)]


def test_banks_that_do_not_name_such_weights_keep_them_at_1() -> None:
    """As format version 1 had it."""
    spec = build_backbone("lenet-300-100", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=1).spec
    layers = spec.layers[:2]
    old = msgspec.structs.replace(
        spec, layers=layers, digest=backbone_digest(spec.seed, spec.init, layers), logits=None
    )
    rebuilt = rebuild_backbone(old)
    assert list(rebuilt.weights) == ["fc1.weight", "fc2.weight"]
    assert dict(rebuilt.module.named_parameters())["fc3.weight"].unique().tolist() == [1.0]
