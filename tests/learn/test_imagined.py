"""Features that are imagined: they lie as the projection says, and heads from few images are better for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from impress_learn.features.projection import Projection
from impress_learn.tasks.head.fit import fit_head
from impress_learn.tasks.head.imagined import class_means, imagine
from impress_learn.training.config import TaskTraining, task_training
from impress_learn.training.loop import Rows

WITHIN, BETWEEN = torch.tensor([[2.0, 0.3], [0.3, 1.0]]), torch.tensor([[3.0, -0.5], [-0.5, 0.5]])


def projection(within: Tensor = WITHIN, between: Tensor = BETWEEN) -> Projection:
    return Projection("0", torch.zeros(len(within)), torch.eye(len(within)), within, between)


def test_means_are_the_posterior_ones_of_the_textbook() -> None:
    """N(0, B) before, N(m, W / n) seen: B (B + W / n)^-1 of the mean of n images, by NumPy."""
    values, labels = torch.tensor([[1.0, 2.0], [3.0, 0.0], [-1.0, 1.0]]), torch.tensor([0, 0, 1])
    found = class_means(Rows(values, labels), projection(), 3)
    before = BETWEEN.numpy() + 0.1 * WITHIN.numpy()
    for mean, images, expected in zip(found.likeliest, (2, 1), ([2.0, 1.0], [-1.0, 1.0]), strict=False):
        posterior = before @ np.linalg.inv(before + WITHIN.numpy() / images) @ np.array(expected)
        np.testing.assert_allclose(mean.numpy(), posterior, rtol=1e-5)
    assert found.images.tolist() == [2, 1, 1], "a class without an image is as open as one of one image"
    assert found.likeliest[2].tolist() == [0, 0]


def test_rows_spread_as_means_are_open_and_images_do() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1])
    values = torch.tensor([[4.0, 1.0]] * 4 + [[-2.0, 0.0]])
    means = class_means(Rows(values, labels), projection(), 2)
    draw = imagine(means, projection(), 0)
    drawn = [draw() for _ in range(1500)]
    assert not torch.equal(drawn[0].values, drawn[1].values)
    assert drawn[0].labels.bincount().tolist() == [128, 128]
    before, within = BETWEEN.numpy() + 0.1 * WITHIN.numpy(), WITHIN.numpy() + 0.1 * 1.5 * np.eye(2)
    for label, images in ((0, 4), (1, 1)):
        rows = np.stack([one.values[one.labels == label].numpy() for one in drawn])
        open_to = before - before @ np.linalg.inv(before + WITHIN.numpy() / images) @ before
        np.testing.assert_allclose(rows.mean((0, 1)), means.likeliest[label].numpy(), atol=0.08)
        np.testing.assert_allclose(np.cov(rows.mean(1).T), open_to + within / 128, atol=0.08)
        inside = rows - rows.mean(1, keepdims=True)
        np.testing.assert_allclose(inside.reshape(-1, 2).T @ inside.reshape(-1, 2) / 127 / 1500, within, atol=0.03)


@pytest.mark.parametrize("images", [2, 5])
def test_heads_of_two_bits_from_few_images_are_better_for_them(images: int) -> None:
    """Classes differ in four directions of 24 alone; test rows of the same world."""
    width, classes = 24, 4
    between = 1e-3 * torch.eye(width)
    between[:4, :4] = 3 * torch.eye(4)
    world = projection(torch.eye(width), between)
    generator = torch.Generator().manual_seed(4)
    shares: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(12):
        means = torch.randn(classes, width, generator=generator) @ between.sqrt()
        train, test = (
            Rows(means[labels] + torch.randn(len(labels), width, generator=generator), labels)
            for labels in (torch.arange(classes).repeat(images), torch.arange(classes).repeat(250))
        )
        fit = task_training(TaskTraining(seed=seed).record(len(train)))
        for imagined in (False, True):
            head = fit_head(
                train, world, fit, classes=classes, dimensions=width, bits=2, on_step=lambda: None,
                copies=train if imagined else None,
            )  # fmt: skip
            right = head.logits(test.values, 2).argmax(1) == test.labels
            shares[imagined].append(float(right.float().mean()))
    assert np.mean(shares[True]) > np.mean(shares[False]) + 0.01


@pytest.mark.parametrize("within", [1e-2, 1e-6, 0.0])
@pytest.mark.parametrize("images", [1, 5])
def test_classes_that_hardly_spread_within_are_imagined_too(within: float, images: int) -> None:
    """Rounding then leaves covariances with eigenvalues below 0: Cholesky raises, the root is by eigenvalues."""
    generator = torch.Generator().manual_seed(0)
    far = torch.randn(64, 3, generator=generator)
    degenerate = projection(within * torch.eye(64), (far @ far.T).half().float())
    labels = torch.arange(5).repeat(images)
    rows = Rows(torch.randn(5 * images, 3, generator=generator) @ far.T, labels)
    means = class_means(rows, degenerate, 5)
    drawn = imagine(means, degenerate, 0)().values
    assert drawn.isfinite().all()
    inside = torch.linalg.lstsq(far, drawn.T).solution.T @ far.T
    assert (drawn - inside).abs().max() < 0.05 * drawn.abs().max() + 8 * within**0.5, (
        "they leave the classes' directions"
    )
