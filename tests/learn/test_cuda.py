"""What only a GPU can show: no training loop waits for it, its choices are the CPU's, runs can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from impress_learn.masks.basis import effective_weights, make_basis
from impress_learn.masks.edge_popup import random_supermask, train_supermask
from impress_learn.masks.layer_masks import pack_masks, stack_masks
from impress_learn.masks.top_k import top_k_mask
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.parts.alpha import trainable_alpha
from impress_learn.parts.own_mask import trainable_mask
from impress_learn.parts.residual import first_values, make_residual, trainable_residual
from impress_learn.running.accuracy import accuracy
from impress_learn.streams.augment import shift_and_flip
from impress_learn.streams.images import Images
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference
from impress_learn.tasks.weights import train_parts
from impress_learn.training.config import MaskTraining, TaskTraining

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def network() -> Backbone:
    return build_backbone("timm:test_resnet", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)


@pytest.fixture(scope="module")
def digits() -> Images:
    return load_task(parse_reference("rotated-digits/0"), data_dir=None).train


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def calibration_of(images: Images) -> Tensor:
    return images.batch(slice(0, 256))[0]


def never_waits() -> Callable[[], None]:
    """Called after every step: from the second to the twentieth, waiting for the device is an error.

    (The 25th looks at the losses.)
    """
    steps = 0

    def on_step() -> None:
        nonlocal steps
        steps += 1
        torch.cuda.set_sync_debug_mode("error" if 2 <= steps < 20 else "default")

    return on_step


def test_training_a_mask_does_not_wait_for_the_device(network: Backbone, digits: Images) -> None:
    images = digits.varied(shift_and_flip).to(CUDA)
    try:
        train_supermask(
            network.to(CUDA), images, MaskTraining(epochs=2), density=0.3, score_seed=0,
            on_step=never_waits(), calibration=calibration_of(images),
        )  # fmt: skip
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("packed", [False, True])
def test_learning_a_task_does_not_wait_for_the_device(
    network: Backbone, digits: Images, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    if packed:
        monkeypatch.setattr("impress_learn.masks.basis.AT_MOST", -1)
    backbone, images = network.to(CUDA), digits.to(CUDA)
    basis = make_basis(backbone, [random_supermask(network.spec, density=0.3, seed=seed) for seed in range(9)])
    fit, residual = TaskTraining(epochs=3, batch_size=64, l1=0.01), make_residual(network.spec, 512, 1, CUDA)
    parts = [
        trainable_alpha(basis.but_last(), fit, 16, None, "int8"),
        trainable_mask(backbone, 100, fit.seed),
        trainable_residual(residual, backbone.weights, first_values(residual, fit.seed, 0.1)),
    ]
    try:
        train_parts(backbone, parts, images, fit, on_step=never_waits(), calibration=calibration_of(images))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_mask_from_the_gpu_is_as_good_on_the_cpu(network: Backbone) -> None:
    data = load_task(parse_reference("rotated-digits/0"), data_dir=None)
    calibration = calibration_of(data.train)
    mask = train_supermask(
        network.to(CUDA), data.train.to(CUDA), MaskTraining(epochs=12), density=0.3, score_seed=0,
        on_step=lambda: None, calibration=calibration.to(CUDA),
    )  # fmt: skip
    effective = {name: weight * mask[name] for name, weight in network.weights.items()}
    on_cpu = accuracy(network, with_statistics(network, effective, calibration), data.test)
    moved, there = {name: one.to(CUDA) for name, one in effective.items()}, network.to(CUDA)
    on_gpu = accuracy(there, with_statistics(there, moved, calibration.to(CUDA)), data.test.to(CUDA))
    assert on_cpu > 0.94
    assert on_gpu == pytest.approx(on_cpu, abs=0.005)


@pytest.mark.usefixtures("repeatable")
def test_a_run_can_be_repeated(network: Backbone, digits: Images) -> None:
    backbone, images = network.to(CUDA), digits.to(CUDA)

    def once() -> dict[str, Tensor]:
        calibration = calibration_of(images)
        mask = train_supermask(
            backbone, images, MaskTraining(epochs=2), density=0.3, score_seed=0,
            on_step=lambda: None, calibration=calibration,
        )  # fmt: skip
        fit, residual = TaskTraining(epochs=2), make_residual(network.spec, 512, 1, CUDA)
        alpha = trainable_alpha(make_basis(backbone, [mask]), fit, 16, None, "int8")
        values = trainable_residual(residual, backbone.weights, first_values(residual, fit.seed, 0.1))
        train_parts(backbone, [alpha, values], images, fit, on_step=lambda: None, calibration=calibration)
        return {**mask, "alpha": alpha.learned(), "values": values.learned()}

    first, second = once(), once()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_largest_are_chosen_as_on_the_cpu() -> None:
    values = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).round(decimals=3).abs()
    for ones in (1, 1 << 10, 1 << 19, (1 << 20) - 1):
        assert torch.equal(top_k_mask(values.to(CUDA), ones).cpu(), top_k_mask(values, ones))


@pytest.mark.parametrize("groups", [1, 16])
def test_packed_masks_combine_as_stacked_ones(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 32, 3, 3, generator=generator).to(CUDA)
    masks = [torch.rand(weight.shape, generator=generator) < 0.3 for _ in range(75)]
    found = []
    for kept in (pack_masks(masks, weight), stack_masks(masks, weight)):
        alpha = torch.full((75, groups), 1 / 75, device=CUDA, requires_grad=True)
        combined = kept.combine(alpha)
        combined.square().sum().backward()
        assert alpha.grad is not None
        found.append((combined.detach(), alpha.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_large_network_answers_alike_on_both(digits: Images) -> None:
    backbone = build_backbone("timm:resnet18", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    basis = make_basis(backbone, [random_supermask(backbone.spec, density=0.3, seed=seed) for seed in range(2)])
    alpha = torch.full((2, len(backbone.weights)), 0.5)
    images = digits.batch(slice(0, 32))[0]
    with torch.no_grad():
        on_cpu = backbone(effective_weights(basis, alpha), images)
        on_gpu = backbone.to(CUDA)(
            {name: one.to(CUDA) for name, one in effective_weights(basis, alpha).items()}, images.to(CUDA)
        ).cpu()
    assert float((on_cpu - on_gpu).abs().max()) < 0.05 * float(on_cpu.std())
