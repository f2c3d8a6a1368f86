"""Steps and learning rates are torch.optim's own, to the last bit, without the import of torch._dynamo."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from impress_learn.training.config import MaskTraining, TaskTraining
from impress_learn.training.optimizer import make_step, rates


@pytest.mark.parametrize("lr", [0.03, 4.0, 0.001])
@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 30), (1, 7), (3, 4), (5, 40), (7, 20)])
def test_rates_are_those_of_torch_schedulers(lr: float, warmup: int, total: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    cosine = CosineAnnealingLR(optimizer, T_max=total - warmup)
    schedule = cosine
    if warmup:
        rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
        schedule = SequentialLR(optimizer, [rise, cosine], milestones=[warmup])  # type: ignore[assignment]
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert list(rates(lr, warmup=warmup, total=total)) == expected


@pytest.mark.parametrize(
    ("fit", "make"),
    [
        (MaskTraining(), partial(torch.optim.SGD, momentum=0.9)),
        (MaskTraining(weight_decay=0.1), partial(torch.optim.SGD, momentum=0.9, weight_decay=0.1)),
        (TaskTraining(), torch.optim.Adam),
        (TaskTraining(weight_decay=0.01), partial(torch.optim.Adam, weight_decay=0.01)),
        (TaskTraining(optimizer="rmsprop", weight_decay=0.01), partial(torch.optim.RMSprop, weight_decay=0.01)),
    ],
)
def test_steps_are_those_of_torch_optim(fit: MaskTraining | TaskTraining, make) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    found = [
        torch.randn(7, 3, generator=generator).requires_grad_(),
        torch.randn(1, generator=generator).requires_grad_(),
    ]
    expected = [one.detach().clone().requires_grad_() for one in found]
    step, reference = make_step(fit, found), make(expected, lr=1.0)
    for rate in (0.5, 0.03, 0.001, 0.02):
        gradients = [torch.randn(one.shape, generator=generator) for one in found]
        for ours, theirs, gradient in zip(found, expected, gradients, strict=True):
            ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        step(rate)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
        assert all(one.grad is None for one in found)


def test_neither_training_nor_turned_images_import_the_compiler() -> None:
    code = """
import sys, torch
from impress_learn.streams.rotated import rotate
from impress_learn.training.config import TaskTraining
from impress_learn.training.optimizer import make_step
rotate(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 30)
weight = torch.zeros(3, requires_grad=True)
weight.grad = torch.ones(3)
make_step(TaskTraining(), [weight])(0.1)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
