"""Accuracy of what is stored, the control with wrong masks, and networks that need calibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_bank
import torch
from planned import planned_bank

from impress_format.bank import Bank
from impress_format.errors import BankMismatch, OutOfMemory, UsageError
from impress_format.parts.table import stored_parts
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.record import TaskRecord
from impress_learn import LoadedBank, load_bank
from impress_learn.jobs import evaluate
from impress_learn.jobs import making as train_module
from impress_learn.jobs.making import ensure_calibration_images, train_missing_masks
from impress_learn.network.backbone import Backbone, members_of
from impress_learn.network.build import build_backbone
from impress_learn.plan.asked import Masks
from impress_learn.plan.bank import plan_masks
from impress_learn.progress import SILENT
from impress_learn.running import accuracy as accuracy_module
from impress_learn.running.accuracy import (
    Accuracy,
    BestMask,
    Item,
    accuracy,
    mask_items,
    measure,
    own_weights,
    task_items,
)
from impress_learn.running.controls import best_mask_of, wrong_masks, wrong_weights
from impress_learn.streams.images import Images
from impress_learn.streams.load import TaskData, load_task
from impress_learn.streams.reference import Reference, parse_reference, parse_references
from impress_learn.training.config import MaskTraining

CPU = torch.device("cpu")
NOWHERE = Path("nowhere")
TASKS = ("rotated-digits/0", "rotated-digits/90", "rotated-digits/180")


def planned(
    path: Path,
    backbone: Backbone,
    *texts: str,
    masks_per_task: int = 1,
    random_masks: int = 0,
    lr: float = 4.0,
    holdout: float = 0.0,
) -> Bank:
    """A bank with one epoch planned for each mask, nothing trained."""
    plans = plan_masks(
        parse_references(texts),
        MaskTraining(epochs=1, lr=lr, holdout=holdout),
        Masks(masks_per_task=masks_per_task, random_masks=random_masks, density=0.1),
    )
    return planned_bank(path, backbone, plans)


def train(bank: Bank) -> None:
    train_missing_masks(bank, data_dir=NOWHERE, device=CPU)


def store(bank: Bank, name: str, task: str, alpha: np.ndarray, granularity: int = 1, *, holdout: float = 0.0) -> None:
    """Store a task whose alpha is given."""
    record = TaskRecord(
        name=name,
        task=task,
        basis=bank.basis_digest(len(alpha)),
        accuracy=0.0,
        train_accuracy=0.0,
        fit=TaskTrainingRecord(epochs=1, lr=0.1, holdout=holdout),
        settings=small_bank.settings(granularity=granularity),
    )
    bank.write_task(record, stored_parts(alpha=alpha.astype(np.float32)))


@pytest.fixture(scope="module")
def loaded(lenet: Backbone, tmp_path_factory: pytest.TempPathFactory) -> LoadedBank:
    """Three trained masks, a random one, and a task for each mask whose alpha names that mask alone."""
    bank = planned(tmp_path_factory.mktemp("bank") / "a.impress", lenet, *TASKS, random_masks=1)
    train(bank)
    for index in range(4):
        for granularity, columns in ((1, 3), (7, 21)):
            alpha = np.zeros((4, columns))
            alpha[index] = 1.0
            store(bank, f"only-{index}-{granularity}", TASKS[index % 3], alpha, granularity)
    return load_bank(bank, CPU)


@pytest.mark.parametrize("granularity", [1, 7])
@pytest.mark.parametrize("index", range(4))
def test_weights_of_a_one_hot_task_are_those_of_the_mask(loaded: LoadedBank, index: int, granularity: int) -> None:
    (of_task,), of_mask = members_of(loaded.task_weights(f"only-{index}-{granularity}")), loaded.mask_weights(index)
    _, masks = loaded.bank.read_mask(index)
    for name, weight in loaded.backbone.weights.items():
        expected = np.where(masks[name], weight.numpy(), 0.0)
        assert np.array_equal(of_task[name].numpy(), expected)
        assert np.array_equal(of_mask[name].numpy(), expected)


def test_alpha_over_the_first_masks_ignores_those_added_later(loaded: LoadedBank) -> None:
    store(loaded.bank, "short", TASKS[0], np.array([[0.0] * 3, [1.0] * 3]))
    (weights,), expected = members_of(loaded.task_weights("short")), loaded.mask_weights(1)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_accuracy_is_the_share_of_images_whose_largest_logit_is_their_label(
    lenet: Backbone, digits: tuple[Images, Images], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = digits[1].batch(slice(None))
    hidden = images.flatten(1).double().numpy()
    for number, weight in enumerate(lenet.weights.values()):
        hidden = hidden @ weight.double().numpy().T
        hidden = np.maximum(hidden, 0.0) if number < 2 else hidden
    expected = float((hidden.argmax(1) == labels.numpy()).mean())
    for batch in (1000, 499, 64):
        monkeypatch.setattr(accuracy_module, "_BATCH", batch)
        assert accuracy(lenet, lenet.weights, digits[1]) == pytest.approx(expected, abs=1 / 500)


def test_incomplete_bank_is_refused_with_how_many_are_there(lenet: Backbone, tmp_path: Path) -> None:
    bank = planned(tmp_path / "b.impress", lenet, *TASKS, masks_per_task=0, random_masks=3)
    train(bank)
    bank.mask_path(1).unlink()
    with pytest.raises(BankMismatch, match="has 2 of its 3 masks"):
        load_bank(bank, CPU)


def test_wrong_masks_are_those_of_other_tasks_but_never_random_ones(loaded: LoadedBank) -> None:
    assert wrong_masks(loaded.bank, "rotated-digits/90") == [0, 2]
    assert wrong_masks(loaded.bank, "rotated-digits/45") == [0, 1, 2]


@pytest.mark.parametrize("tasks", [2, 10, 11, 12, 21, 95, 360])
def test_wrong_masks_are_at_most_ten_spread_over_the_bank(lenet: Backbone, tmp_path: Path, tasks: int) -> None:
    bank = planned(tmp_path / "b.impress", lenet, f"rotated-digits/0:{tasks}")
    chosen = wrong_masks(bank, "rotated-digits/0")
    assert 0 not in chosen
    assert min(tasks - 1, 6) <= len(chosen) <= 10
    gaps = np.diff([1, *chosen, tasks - 1])
    assert gaps.max() <= -(-(tasks - 1) // 10)


def test_all_masks_of_the_task_itself_are_right_ones(lenet: Backbone, tmp_path: Path) -> None:
    bank = planned(tmp_path / "b.impress", lenet, "rotated-digits/0:2", masks_per_task=3)
    assert wrong_masks(bank, "rotated-digits/0") == [3, 4, 5]


def test_bank_of_one_task_has_no_wrong_mask(lenet: Backbone, tmp_path: Path) -> None:
    bank = planned(tmp_path / "b.impress", lenet, "rotated-digits/0", random_masks=2)
    with pytest.raises(BankMismatch, match="no wrong one"):
        wrong_masks(bank, "rotated-digits/0")


def measured(loaded: LoadedBank, items: Sequence[Item], *, wrong: bool = False) -> list[Accuracy]:
    weights_of = wrong_weights(loaded) if wrong else own_weights(loaded)
    best = best_mask_of(loaded) if wrong else None
    return measure(loaded, items, weights_of, best_mask_of=best, holdout=0.0, data_dir=NOWHERE, progress=SILENT)


def test_wrong_mask_accuracy_is_the_mean_over_wrong_masks(loaded: LoadedBank, digits: tuple[Images, Images]) -> None:
    _, test = digits
    each = [accuracy(loaded.backbone, loaded.mask_weights(index), test) for index in (1, 2)]
    (found,) = measured(loaded, mask_items(loaded.bank)[:1], wrong=True)
    assert found.accuracy == pytest.approx(sum(each) / 2)


def test_best_mask_is_the_one_that_does_best_on_training_images(
    loaded: LoadedBank, digits: tuple[Images, Images]
) -> None:
    train, test = digits
    (found,) = measured(loaded, task_items(loaded.bank, ["only-1-1"]), wrong=True)
    own = loaded.bank.read_mask_record(1).accuracy
    assert own is not None
    assert found.best_mask == BestMask(1, own)
    (item,) = mask_items(loaded.bank)[:1]
    by_training = {index: accuracy(loaded.backbone, loaded.mask_weights(index), train) for index in (1, 2)}
    (other,) = measured(loaded, [item], wrong=True)
    best = max(by_training, key=lambda index: by_training[index])
    expected = accuracy(loaded.backbone, loaded.mask_weights(best), test)
    assert other.best_mask == BestMask(best, expected), "a mask is never its own control"


def test_best_mask_is_not_chosen_on_the_images_it_is_measured_on(loaded: LoadedBank) -> None:
    turned, upright = (load_task(parse_reference(f"rotated-digits/{angle}"), data_dir=NOWHERE) for angle in (90, 0))
    (item,) = task_items(loaded.bank, ["only-2-7"])
    found = best_mask_of(loaded)(item, turned.train, upright.test)
    expected = accuracy(loaded.backbone, loaded.mask_weights(1), upright.test)
    assert found == BestMask(1, expected)


def test_only_the_control_has_a_best_mask(loaded: LoadedBank) -> None:
    assert [one.best_mask for one in measured(loaded, mask_items(loaded.bank))] == [None] * 3


def test_masks_are_right_on_their_own_task_and_wrong_ones_are_not(loaded: LoadedBank) -> None:
    own = measured(loaded, mask_items(loaded.bank))
    control = measured(loaded, mask_items(loaded.bank), wrong=True)
    assert [(one.task, one.samples) for one in own] == [(task, 500) for task in TASKS]
    assert [one.accuracy for one in own] == [loaded.bank.read_mask_record(index).accuracy for index in range(3)]
    assert min(one.accuracy for one in own) > max(one.accuracy for one in control) + 0.1


def test_tasks_are_measured_on_their_own_images(loaded: LoadedBank) -> None:
    names = ["only-0-1", "only-1-1", "only-2-7"]
    found = measured(loaded, task_items(loaded.bank, names))
    assert [(one.task, one.name) for one in found] == list(zip(TASKS, names, strict=True))
    assert [one.accuracy for one in found] == [loaded.bank.read_mask_record(index).accuracy for index in range(3)]


@pytest.fixture(scope="module")
def held_out(lenet: Backbone, tmp_path_factory: pytest.TempPathFactory) -> LoadedBank:
    """Two masks that held out a fifth, and a task over them that held out a fifth, another a tenth."""
    bank = planned(tmp_path_factory.mktemp("held") / "a.impress", lenet, *TASKS[:2], holdout=0.2)
    train(bank)
    for name, holdout in (("fifth", 0.2), ("tenth", 0.1)):
        store(bank, name, TASKS[2], np.array([[1.0] * 3, [0.0] * 3]), holdout=holdout)
    return load_bank(bank, CPU)


def evaluate_at(loaded: LoadedBank, name: str, holdout: float) -> Accuracy:
    (found,) = evaluate(loaded.bank.path, [name], holdout=holdout, data_dir=NOWHERE)
    return found


def test_held_out_images_are_measured_where_asked_for(held_out: LoadedBank) -> None:
    for holdout, images in ((0.2, 259), (0.1, 130)):
        found = evaluate_at(held_out, "fifth", holdout)
        held = load_task(parse_reference(TASKS[2]), data_dir=NOWHERE, holdout=holdout).validation
        assert (found.samples, found.images) == (images, "held-out")
        assert found.accuracy == accuracy(held_out.backbone, held_out.mask_weights(0), held)
    assert evaluate_at(held_out, "fifth", 0.0).images == "test"


def test_images_that_a_task_or_a_mask_was_trained_on_are_not_called_held_out(
    held_out: LoadedBank, loaded: LoadedBank
) -> None:
    with pytest.raises(UsageError, match=r"`holdout` 0.2: tenth .* was trained on all but 0.1"):
        evaluate_at(held_out, "tenth", 0.2)
    with pytest.raises(UsageError, match=r"`holdout` 0.3: mask 0 .* was trained on all but 0.2"):
        evaluate(held_out.bank.path, basis=True, holdout=0.3, data_dir=NOWHERE)
    store(loaded.bank, "honest", TASKS[0], np.array([[1.0] * 3]), holdout=0.1)
    with pytest.raises(UsageError, match=r"mask 0 \(rotated-digits/0\) was trained on these images"):
        evaluate_at(loaded, "honest", 0.1)


def test_bank_of_random_masks_has_no_mask_to_measure(lenet: Backbone, tmp_path: Path) -> None:
    bank = planned(tmp_path / "b.impress", lenet, "rotated-digits/0", masks_per_task=0, random_masks=1)
    with pytest.raises(BankMismatch, match="random masks only"):
        mask_items(bank)


@pytest.fixture(scope="module")
def with_batch_norm(tmp_path_factory: pytest.TempPathFactory) -> LoadedBank:
    """A bank over ResNet-18: one mask trained on 320 digits, one random."""

    def few(reference: Reference, *, data_dir: Path, **settings: Any) -> TaskData:
        data = load_task(reference, data_dir=data_dir, **settings)
        return dataclasses.replace(
            data,
            source_train=data.source_train.subset(torch.arange(320)),
            source_test=data.source_test.subset(torch.arange(100)),
        )

    backbone = build_backbone("timm:resnet18", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    bank = planned(tmp_path_factory.mktemp("norm") / "a.impress", backbone, TASKS[0], random_masks=1)
    assert bank.manifest.calibration
    ensure_calibration_images(bank, parse_references(TASKS[:1]), data_dir=NOWHERE, holdout=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "load_task", few)
        train(bank)
    return load_bank(bank, CPU)


def test_calibrated_network_is_as_accurate_one_image_at_a_time_as_in_batches(
    with_batch_norm: LoadedBank, digits: tuple[Images, Images], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = digits[1].subset(torch.arange(100))
    weights = with_batch_norm.mask_weights(0)
    together = accuracy(with_batch_norm.backbone, weights, images)
    monkeypatch.setattr(accuracy_module, "_BATCH", 1)
    alone = accuracy(with_batch_norm.backbone, weights, images)
    assert alone == together
    assert together > 0.2


def test_accuracy_stored_with_a_mask_is_measured_after_calibration(
    with_batch_norm: LoadedBank, digits: tuple[Images, Images]
) -> None:
    images = digits[1].subset(torch.arange(100))
    stored = with_batch_norm.bank.read_mask_record(0).accuracy
    assert stored == accuracy(with_batch_norm.backbone, with_batch_norm.mask_weights(0), images)


def test_norm_statistics_are_taken_once_for_the_weights_of_a_task(
    with_batch_norm: LoadedBank, digits: tuple[Images, Images]
) -> None:
    """Recomputing them at every call made one image take 22 times as long."""
    image, _ = digits[1].batch(slice(0, 1))
    passes: list[int] = []
    counter = with_batch_norm.backbone.module.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    weights = with_batch_norm.mask_weights(0)
    for _ in range(3):
        with_batch_norm.logits(weights, image)
    counter.remove()
    assert passes == [256, 1, 1, 1]


def test_measuring_one_mask_leaves_no_trace_on_the_next(
    with_batch_norm: LoadedBank, digits: tuple[Images, Images]
) -> None:
    images = digits[1].subset(torch.arange(50))
    backbone = with_batch_norm.backbone
    first = accuracy(backbone, with_batch_norm.mask_weights(0), images)
    accuracy(backbone, with_batch_norm.mask_weights(1), images)
    assert accuracy(backbone, with_batch_norm.mask_weights(0), images) == first


def test_images_that_do_not_fit_at_once_are_measured_in_smaller_batches(
    lenet: Backbone, digits: tuple[Images, Images], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = accuracy(lenet, lenet.weights, digits[1])
    whole, seen = Backbone.__call__, []

    def narrow(self: Backbone, effective: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        if len(images) > 20:
            torch.empty(1 << 50)
        seen.append(len(images))
        return whole(self, effective, images)

    monkeypatch.setattr(Backbone, "__call__", narrow)
    assert accuracy(lenet, lenet.weights, digits[1]) == expected
    assert sum(seen) == len(digits[1])
    assert max(seen) <= 20


def test_too_little_memory_for_one_image_is_said(
    lenet: Backbone, digits: tuple[Images, Images], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backbone, "__call__", lambda *_: torch.empty(1 << 50))
    with pytest.raises(OutOfMemory, match=r"measuring accuracy on 1 images at once"):
        accuracy(lenet, lenet.weights, digits[1])
