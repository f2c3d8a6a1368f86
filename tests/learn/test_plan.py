"""Plans: which masks a bank is to have, every seed drawn from one, and settings that cannot be meant refused."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impress_format.errors import BankMismatch, UsageError
from impress_format.records.masks import MaskPlan
from impress_format.records.network import BackboneSpec, LayerSpec
from impress_learn.plan.asked import FIRST_MASKS, Masks
from impress_learn.plan.bank import choose_view, count_classes, plan_masks, shared_class_names
from impress_learn.plan.tasks import check_fits_bank
from impress_learn.streams.held_out import count_training
from impress_learn.streams.reference import Reference, parse_reference, parse_references
from impress_learn.training.config import MaskTraining, TaskTraining, mask_training, steps_per_epoch, task_training


def plan(*texts: str, **changes: Any) -> tuple[MaskPlan, ...]:
    """A plan with good settings, but for `changes`."""
    masks = Masks(**{field.name: changes.pop(field.name) for field in fields(Masks) if field.name in changes})
    return plan_masks(parse_references(texts), MaskTraining(**{"epochs": 2, **changes}), masks)


def seeds(plans: tuple[MaskPlan, ...]) -> list[int]:
    return [one.seed for one in plans] + [one.fit.seed for one in plans if one.fit]


def test_one_mask_a_task_is_a_heterogeneous_basis() -> None:
    plans = plan("rotated-digits/0:360:120")
    assert [(one.kind, one.task) for one in plans] == [
        ("heterogeneous", "rotated-digits/0"),
        ("heterogeneous", "rotated-digits/120"),
        ("heterogeneous", "rotated-digits/240"),
    ]


def test_several_masks_a_task_are_homogeneous() -> None:
    plans = plan("rotated-digits/5", masks_per_task=4)
    assert [(one.kind, one.task) for one in plans] == [("homogeneous", "rotated-digits/5")] * 4


def test_random_masks_alone_have_neither_task_nor_fit() -> None:
    plans = plan("rotated-digits/5", masks_per_task=0, random_masks=3)
    assert [(one.kind, one.task, one.fit, one.label) for one in plans] == [("random", None, None, "random")] * 3


def test_trained_masks_come_before_random_ones() -> None:
    assert [one.kind for one in plan("rotated-digits/0", "rotated-digits/1", masks_per_task=2, random_masks=2)] == [
        *["homogeneous"] * 4,
        *["random"] * 2,
    ]


def test_masks_are_as_the_banks_first_or_as_usual_where_nobody_says() -> None:
    usual = plan("rotated-digits/0", random_masks=1)
    (first,) = plan("rotated-digits/5", density=0.25, mask_type="signed", allocation="erdos-renyi")
    references, fit = parse_references(["rotated-digits/0"]), MaskTraining(epochs=2)
    assert plan_masks(references, fit, replace(FIRST_MASKS, random_masks=1)) == usual
    assert {(one.density, one.type, one.allocation) for one in usual} == {(0.1, "binary", "uniform")}
    (alike,) = plan_masks(references, fit, Masks(), like=first)
    assert (alike.density, alike.type, alike.allocation) == (0.25, "signed", "erdos-renyi")
    assert plan_masks(references, fit, FIRST_MASKS, like=first) == plan("rotated-digits/0")


def test_settings_are_written_into_every_plan() -> None:
    (one,) = plan("rotated-digits/0", density=0.25, epochs=7, batch_size=32, lr=1.5, holdout=0.1)
    assert one.fit is not None
    assert (one.density, one.fit.epochs, one.fit.batch_size, one.fit.lr, one.fit.holdout) == (0.25, 7, 32, 1.5, 0.1)


def test_all_seeds_of_a_plan_are_distinct() -> None:
    found = seeds(plan("rotated-digits/0:100", "rotated-mnist/0:100", masks_per_task=3, random_masks=100))
    assert len(set(found)) == len(found) == 2 * 600 + 100


def test_neighbouring_seeds_share_no_seed_and_are_not_shifted() -> None:
    plans = [plan("rotated-digits/0:50", random_masks=20, seed=seed) for seed in range(4)]
    found = [seeds(one) for one in plans]
    assert len({seed for row in found for seed in row}) == 4 * 120
    steps = np.diff(np.array(found, dtype=np.int64), axis=0)
    assert len(np.unique(steps)) == steps.size


def test_a_plan_is_decided_by_its_settings() -> None:
    assert plan("rotated-digits/0:5", seed=3) == plan("rotated-digits/0:5", seed=3)


def test_a_masks_seed_does_not_depend_on_the_masks_beside_it() -> None:
    assert plan("rotated-digits/0:10")[7] == plan("rotated-digits/7")[0]


def test_seed_of_a_mask_is_fixed_for_good() -> None:
    (one,) = plan("rotated-digits/0")
    assert one.fit is not None
    assert (one.seed, one.fit.seed) == (95123285191977, 4287428134564)


@given(density=st.floats(0.0, 1.0, exclude_min=True))
def test_every_density_in_range_is_taken_as_it_is(density: float) -> None:
    assert plan("rotated-digits/0", density=density)[0].density == density


@pytest.mark.parametrize("density", [0.0, -0.1, 1.0000001, 5.0, math.nan, math.inf, -math.inf])
def test_density_out_of_range_is_refused(density: float) -> None:
    with pytest.raises(UsageError, match="`density`"):
        plan("rotated-digits/0", density=density)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", 0.0),
        ("lr", -1.0),
        ("epochs", 0),
        ("epochs", -3),
        ("batch_size", 0),
        ("holdout", 1.0),
        ("holdout", -0.1),
        ("holdout", math.nan),
        ("seed", -1),
        ("seed", 1 << 53),
        ("masks_per_task", -1),
        ("random_masks", -1),
    ],
)
def test_setting_that_cannot_be_meant_is_refused_by_its_option(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"`{option}` {value}"):
        plan("rotated-digits/0", **{option: value})


@pytest.mark.parametrize("holdout", [1e-6, 0.9999])
def test_holdout_that_leaves_one_side_without_images_is_refused(holdout: float) -> None:
    with pytest.raises(UsageError, match="`holdout`"):
        plan("rotated-digits/0", holdout=holdout)


def test_a_plan_may_have_no_mask_at_all() -> None:
    """Tasks of such a bank are residuals."""
    assert plan("rotated-digits/0", masks_per_task=0) == ()


@pytest.mark.parametrize(
    ("images", "batch", "steps"),
    [(1297, 64, 20), (60_000, 64, 937), (64, 64, 1), (3, 64, 1), (127, 64, 1), (128, 64, 2)],
)
def test_an_epoch_is_its_whole_batches_and_one_at_least(images: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(images, batch) == steps


@given(images=st.integers(1, 100_000), batch=st.integers(1, 1000))
def test_default_epochs_are_three_or_as_many_as_make_the_least_number_of_steps(images: int, batch: int) -> None:
    records = MaskTraining(batch_size=batch).record(images), TaskTraining(batch_size=batch).record(images)
    for epochs, least in ((records[0].epochs, 1000), (records[1].epochs, 500)):
        assert epochs >= 3
        assert epochs * steps_per_epoch(images, batch) >= least
        assert epochs == 3 or (epochs - 1) * steps_per_epoch(images, batch) < least


def test_default_epochs_of_known_streams() -> None:
    assert MaskTraining().record(60_000).epochs == 3
    assert MaskTraining().record(1297).epochs == 50
    assert TaskTraining().record(1297).epochs == 50


def test_a_stored_record_gives_its_fit_back() -> None:
    fits = (
        MaskTraining(epochs=2, batch_size=8, lr=0.5, optimizer="sgd", holdout=0.25, seed=9),
        TaskTraining(epochs=2, batch_size=8, lr=0.5, l1=0.1, shots=3, holdout=0.25, seed=9),
    )
    assert mask_training(fits[0].record(100)) == fits[0]
    assert task_training(fits[1].record(100)) == fits[1]


@pytest.mark.parametrize(
    ("stream", "holdout", "shots", "images"),
    [
        ("rotated-mnist", 0.0, None, 60_000),
        ("rotated-mnist", 0.1, None, 54_000),
        ("rotated-digits", 0.2, None, 1038),
        ("rotated-digits", 0.2, 7, 70),
    ],
)
def test_images_a_task_is_learned_from(stream: str, holdout: float, shots: int | None, images: int) -> None:
    assert count_training(parse_reference(f"{stream}/0").data_set, holdout, shots) == images


def with_data(reference: Reference, **changes: Any) -> Reference:
    """The same task made from other data."""
    data_set = replace(reference.data_set, **changes)
    return replace(reference, stream=replace(reference.stream, data_set=lambda _: data_set))


def test_a_bank_takes_its_images_as_those_of_its_first_task_are() -> None:
    references = parse_references(["rotated-mnist/0", "split-cifar100/1"])
    view = choose_view(references, size=None, mode=None, photo_size=224)
    assert (view.mode, view.size, view.mean, view.std, view.crop) == ("L", (28, 28), (0.1307,), (0.3081,), 1.0)
    coloured = choose_view(references, size=64, mode="RGB", photo_size=224)
    assert (coloured.mode, coloured.size, coloured.mean) == ("RGB", (64, 64), (0.1307, 0.1307, 0.1307))
    grey = choose_view(references[1:], size=None, mode="L", photo_size=224)
    assert (grey.mode, grey.size) == ("L", (32, 32))
    assert grey.mean == pytest.approx((0.4733,), abs=1e-4)


def test_images_of_any_size_are_made_what_the_network_is_made_for() -> None:
    references = [with_data(parse_reference("rotated-mnist/0"), input_shape=None)]
    assert choose_view(references, size=None, mode=None, photo_size=160).size == (160, 160)
    assert choose_view(references, size=96, mode="L", photo_size=160).size == (96, 96)
    assert choose_view(references, size=None, mode=None, photo_size=160).crop == 1.0


@pytest.mark.parametrize("size", [0, -1, 1 << 20])
def test_an_image_size_that_cannot_be_meant_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"`image_size` {size}"):
        choose_view(parse_references(["rotated-mnist/0"]), size=size, mode=None, photo_size=32)


def test_a_network_has_as_many_outputs_as_the_task_with_most_classes() -> None:
    references = parse_references(["split-cifar100/0", "rotated-mnist/0"])
    assert count_classes(references) == 10
    assert shared_class_names(references, None) is None
    assert shared_class_names(parse_references(["rotated-mnist/0:3"]), None) == tuple("0123456789")


def test_a_task_with_more_classes_than_the_network_has_outputs_is_refused_by_name() -> None:
    first, second = parse_references(["rotated-mnist/0", "rotated-mnist/1"])
    spec = BackboneSpec(
        arch="none", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10,
        layers=(LayerSpec(name="a", shape=(1, 1)),), digest="",
    )  # fmt: skip
    check_fits_bank([first, with_data(second, classes=5)], spec)
    with pytest.raises(BankMismatch, match="rotated-mnist/1 has 11 classes; the bank's network has 10 outputs"):
        check_fits_bank([first, with_data(second, classes=11)], spec)
