"""`--image-size auto`: sizes are tried by heads on training images, and the one that is worth its time is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from impress_format.bank import Bank
from impress_format.errors import UsageError
from impress_learn.features.image_size import (
    TriedSize,
    choose_size,
    in_words,
    left_out_accuracy,
    sides_for,
    try_sizes,
)
from impress_learn.jobs import create_bank
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone
from impress_learn.network.pretrained import load_weights
from impress_learn.plan.asked import Masks, Network, image_size_of
from impress_learn.plan.bank import choose_view, pretrained_view
from impress_learn.progress import Progress
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_references

TASKS = ["rotated-digits/0", "rotated-digits/90"]


def tried(**accuracies: float) -> list[TriedSize]:
    return [TriedSize(side=int(name[2:]), accuracy=share, seconds=0.01) for name, share in accuracies.items()]


@given(st.integers(0, 2**16), st.integers(2, 4), st.integers(6, 14))
def test_each_image_is_judged_by_a_regression_of_all_the_others(seed: int, classes: int, count: int) -> None:
    """In closed form as image after image, with the ridge that all images give."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, count - classes)])
    rows = generator.normal(size=(count, 5)) + 2 * np.eye(5)[labels % 5]
    centred = rows - rows.mean(0)
    ridge = 0.1 * (centred**2).sum(1).mean()
    wanted = np.eye(classes)[labels] - np.eye(classes)[labels].mean(0)
    right = 0
    for left_out in range(count):
        others = np.arange(count) != left_out
        gram = centred[others].T @ centred[others] + ridge * np.eye(5)
        answer = centred[left_out] @ np.linalg.solve(gram, centred[others].T @ wanted[others])
        right += int(answer.argmax() == labels[left_out])
    found = left_out_accuracy(torch.from_numpy(rows), torch.from_numpy(labels))
    assert found == pytest.approx(right / count)


def test_twice_the_pixels_have_to_gain_a_point() -> None:
    assert choose_size(tried(px100=0.90, px200=0.921)).side == 200  # four times the pixels: two points
    assert choose_size(tried(px100=0.90, px200=0.919)).side == 100
    assert choose_size(tried(px96=0.877, px128=0.904, px160=0.934, px224=0.927)).side == 160


def test_sizes_are_tried_up_to_what_the_network_is_made_for() -> None:
    assert sides_for(224) == (96, 128, 160, 224)
    assert sides_for(160) == (96, 128, 160)
    assert sides_for(32) == (32,)


def test_what_was_tried_is_told() -> None:
    both = tried(px96=0.9, px128=0.95)
    assert in_words(both, both[1]) == (
        "`image_size` auto: heads on training images, each judged by a head of the others: "
        "96 px 90.0 % (10.0 ms an image), 128 px 95.0 % (10.0 ms an image). "
        "Takes 128: twice the time has to gain a point"
    )


def test_sizes_that_the_network_does_not_take_are_left_out(pretrained: Path) -> None:
    weights = load_weights(str(pretrained / "weights.safetensors"), "timm:test_resnet", None)
    references = parse_references(TASKS)
    view = choose_view(references, size=64, mode=None, photo_size=64)
    view = pretrained_view(view, size=64, mean=weights.mean, std=weights.std)
    data = [load_task(one, data_dir=None, view=view) for one in references]

    def build(side: int) -> Backbone:
        if side == 48:
            raise UsageError("not 48")
        return build_backbone(
            "timm:test_resnet", init="signed-constant", seed=0, input_shape=(3, side, side), classes=10, weights=weights
        )

    found = try_sizes(build, data, (32, 48, 64), mirrored=False)
    assert [one.side for one in found] == [32, 64]
    assert all(0.1 < one.accuracy < 1 for one in found)
    again = try_sizes(build, data, (32,), mirrored=False)
    assert again[0].accuracy == found[0].accuracy
    with pytest.raises(UsageError, match="not 48"):
        try_sizes(build, data, (48,), mirrored=False)


def test_a_bank_takes_the_size_that_was_chosen_and_keeps_it(bank_for_heads: Bank, pretrained: Path) -> None:
    path, remarks = bank_for_heads.path.parent / "auto.impress", list[str]()
    network = Network(backbone="timm:test_resnet", weights=str(pretrained / "weights.safetensors"), image_size="auto")

    heard = Progress(remark=remarks.append)
    made = create_bank(path, TASKS, network=network, masks=Masks(masks_per_task=0), progress=heard)
    assert made.manifest.preprocess is not None
    side = made.manifest.preprocess.size[0]
    (told,) = (remark for remark in remarks if "auto" in remark)
    assert f"Takes {side}:" in told
    assert "96 px" in told
    assert made.backbone.input_shape == (3, side, side)
    remarks.clear()
    again = create_bank(path, TASKS, network=network, masks=Masks(masks_per_task=0), progress=heard)
    assert again.manifest == made.manifest
    assert not any("auto" in remark for remark in remarks)


def test_without_weights_there_is_nothing_to_try(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`image_size` auto"):
        create_bank(tmp_path / "a.impress", TASKS, network=Network(image_size="auto"))
    assert not (tmp_path / "a.impress").exists()


def test_a_size_is_a_number_or_auto() -> None:
    assert (image_size_of("128"), image_size_of("auto"), image_size_of("-1")) == (128, "auto", -1)
    with pytest.raises(ValueError, match="'big': expected a number of pixels, or auto"):
        image_size_of("big")
