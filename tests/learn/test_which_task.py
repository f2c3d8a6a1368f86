"""Which task images are of, by features of a pretrained network: signatures, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from impress_format.parts.feature_signature import restore_feature_signatures
from impress_format.parts.head import StoredHead
from impress_learn.features.projection import Projection
from impress_learn.recognition import feature_signature as evidence
from impress_learn.recognition.feature_signature import Known, known_tasks, make_feature_signature

WIDTH, CLASSES = 12, 3
TAG = "5a" * 16


def projection() -> Projection:
    """Of whitened features, where tasks lie apart in some directions more than in others."""
    apart = torch.linspace(2.0, 0.1, WIDTH)
    return Projection(TAG, torch.zeros(WIDTH), torch.eye(WIDTH), torch.eye(WIDTH) / 2, torch.diag(apart))


def draw(seed: int, images: int, of: Tensor | None = None) -> Tensor:
    """Projected features of images of a task, those of its classes apart."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(WIDTH, generator=generator) * projection().between.diagonal().sqrt() if of is None else of
    return mean + torch.randn(images, WIDTH, generator=generator) * math.sqrt(0.5)


def head(seed: int, classes: int = CLASSES) -> StoredHead:
    generator = np.random.default_rng(seed)
    return StoredHead(
        (generator.normal(size=(classes, 8)) / 4).astype(np.float32), generator.normal(size=classes).astype(np.float32)
    )


def rows(*signatures: bytes) -> np.ndarray:
    return np.frombuffer(b"".join(signatures), dtype=np.uint8).reshape(len(signatures), -1)


def heads_of(heads: Sequence[StoredHead]) -> Callable[[np.ndarray], StoredHead]:
    return lambda some: StoredHead(
        np.stack([heads[row].weight for row in some]), np.stack([heads[row].bias for row in some])
    )


def log_sum_exp(logits: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.exp(logits).sum(-1)))


@pytest.mark.parametrize("one", [None, head(1)])
def test_a_signature_is_a_share_of_the_discriminant_and_0_lies_above_other_tasks(one: StoredHead | None) -> None:
    projected, images = projection(), draw(0, 40)
    read = restore_feature_signatures(rows(make_feature_signature(projected, images, one, seed=0)), WIDTH)
    within, between = projected.within.numpy(), projected.between.numpy()
    spread = between + 0.1 * within
    mean = spread @ np.linalg.inv(spread + within / 40) @ images.numpy().mean(0)
    weight = np.linalg.inv(within + 0.1 * np.diag(within).mean() * np.eye(WIDTH)) @ mean
    weight *= 1.0 if one is None else 0.4
    half_a_step = np.abs(read.weight).min()
    np.testing.assert_allclose(read.weight[0], weight, atol=1.01 * half_a_step)

    def measured(points: np.ndarray) -> np.ndarray:
        energy = 0 if one is None else log_sum_exp(points[:, :8] @ one.weight.T + one.bias)
        return np.asarray(points @ read.weight[0] + energy)

    others = measured(np.random.default_rng(1).multivariate_normal(np.zeros(WIDTH), within + between, 100_000))
    assert read.bias[0] == pytest.approx(-others.mean() - 2 * others.std(), abs=0.1 * others.std())
    assert read.deviation[0] == pytest.approx(measured(images.numpy()).std(), rel=0.01)


@pytest.mark.parametrize("numbers", [1, 1 << 24])  # heads in memory at once: one, or all
def test_scores_of_groups_are_sums_of_the_evidence_of_their_images(
    monkeypatch: pytest.MonkeyPatch, numbers: int
) -> None:
    monkeypatch.setattr(evidence, "_AT_ONCE", numbers)
    projected, groups = projection(), draw(3, 8, torch.zeros(WIDTH)).view(2, 4, WIDTH)
    two, three = [head(1, 2), head(2, 2)], [head(number) for number in range(3, 7)]
    of_task = {0: three[3], 1: two[1], 2: None, 4: three[0], 5: three[1]}
    signed = rows(*(make_feature_signature(projected, draw(n, 30), of_task.get(n), seed=0) for n in range(6)))
    headed = [([1], [1], heads_of(two)), ([0, 4, 5], [3, 0, 1], heads_of(three))]
    scores = known_tasks(projected, signed, headed).recognise(groups).scores
    read, points = restore_feature_signatures(signed, WIDTH), groups.numpy()
    for task in range(6):
        expected = points @ read.weight[task] + read.bias[task]
        if (one := of_task.get(task)) is not None:
            expected += log_sum_exp(points[..., :8] @ one.weight.T + one.bias)
        np.testing.assert_allclose(scores[:, task], expected.sum(1), rtol=1e-4, atol=1e-3)


def known(images: int) -> Known:
    return known_tasks(
        projection(), rows(*(make_feature_signature(projection(), draw(n, images), None, 0) for n in range(8)))
    )


@pytest.mark.parametrize(("images", "single", "sixteen", "unknown"), [(200, 0.6, 0.99, 0.02), (5, 0.5, 0.95, 0.2)])
def test_the_right_task_is_found(images: int, single: float, sixteen: float, unknown: float) -> None:
    asked = torch.stack([draw(task, images + 160)[images:] for task in range(8)])  # others than the signature was of
    tasks = known(images)
    right = {}
    for count in (1, 16):
        found = tasks.recognise(asked.reshape(8 * 160 // count, count, WIDTH))
        truth = torch.arange(8).repeat_interleave(160 // count)
        right[count] = float((found.scores.argmax(1) == truth).float().mean())
        if count == 16:
            assert float(found.unknown.float().mean()) <= unknown
    assert right[1] >= single
    assert right[16] >= sixteen


def test_of_the_tasks_own_images_the_mean_is_at_least_1_even_amid_the_others() -> None:
    amid = draw(0, 500, torch.zeros(WIDTH))
    read = restore_feature_signatures(rows(make_feature_signature(projection(), amid, None, seed=0)), WIDTH)
    assert (amid.numpy() @ read.weight[0] + read.bias[0]).mean() == pytest.approx(1.0, abs=0.01)


def test_images_of_none_of_the_tasks_are_found_unknown() -> None:
    groups = torch.stack([draw(task, 16) for task in range(100, 150)])
    assert float(known(200).recognise(groups).unknown.float().mean()) >= 0.7


def test_a_signature_is_the_same_for_the_same_seed_and_needs_one_image() -> None:
    one = draw(0, 1)
    assert make_feature_signature(projection(), one, head(1), 5) == make_feature_signature(
        projection(), one, head(1), 5
    )
    assert make_feature_signature(projection(), one, head(1), 5)[:2] == bytes.fromhex(TAG)[:2]
