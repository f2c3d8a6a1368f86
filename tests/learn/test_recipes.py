"""Optimisers, weight decay, warm-up and layer densities: what is asked for is what trains, and what the bank keeps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from impress_cli.rebuilding import rebuilding_commands
from impress_format import open_bank, verify_bank
from impress_format.errors import BankMismatch, UsageError
from impress_format.records.masks import supermask_sizes
from impress_format.records.network import LENET
from impress_format.records.training import MaskTrainingRecord, TaskTrainingRecord
from impress_format.zoo.card import model_card
from impress_learn.jobs import add_tasks, create_bank, extend_bank
from impress_learn.plan.asked import Masks
from impress_learn.streams.images import ImagesInMemory
from impress_learn.training.config import MaskTraining, TaskTraining, check_training
from impress_learn.training.loop import minimise

GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"


def images(count: int = 8) -> ImagesInMemory:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 1, 2), generator=generator, dtype=torch.uint8)
    return ImagesInMemory(pixels, torch.arange(count) % 2, (0.5,), (0.25,), None)


def descend(
    fit: MaskTraining | TaskTraining, reference: torch.optim.Optimizer, weight: torch.Tensor, rates: list[float]
) -> None:
    """The same steps by hand, with these learning rates."""
    train = images()
    for rate in rates:
        reference.param_groups[0]["lr"] = rate
        every = train.batch(torch.arange(8))
        loss = torch.nn.functional.cross_entropy(every[0].flatten(1) @ weight.T, every[1])
        reference.zero_grad()
        loss.backward()
        reference.step()


@pytest.mark.parametrize(
    ("fit", "make"),
    [
        (MaskTraining(), partial(torch.optim.SGD, lr=4.0, momentum=0.9)),
        (MaskTraining(optimizer="adam", weight_decay=0.1), partial(torch.optim.Adam, lr=0.001, weight_decay=0.1)),
        (MaskTraining(optimizer="rmsprop", lr=0.002), partial(torch.optim.RMSprop, lr=0.002)),
        (TaskTraining(weight_decay=0.01), partial(torch.optim.Adam, lr=0.03, weight_decay=0.01)),
        (TaskTraining(optimizer="rmsprop"), partial(torch.optim.RMSprop, lr=0.03)),
    ],
)
def test_a_fit_trains_by_the_optimizer_that_it_names(fit: MaskTraining | TaskTraining, make) -> None:  # type: ignore[no-untyped-def]
    fit = replace(fit, epochs=4, batch_size=8)
    start = torch.tensor([[0.3, -0.2], [0.1, 0.4]])
    found, expected = (start.clone().requires_grad_() for _ in range(2))
    minimise(lambda batch: batch.flatten(1) @ found.T, [found], images(), fit, on_step=lambda: None)
    reference = make([expected])
    rate = reference.param_groups[0]["lr"]
    cosine = [rate * (1 + torch.cos(torch.tensor(torch.pi * step / 4)).item()) / 2 for step in range(4)]
    descend(fit, reference, expected, cosine)
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, start)


def test_the_learning_rate_rises_before_it_falls() -> None:
    """Two passes of warm-up, one step each: 1/3, 2/3, then a cosine over the other four."""
    start = torch.tensor([[0.3, -0.2], [0.1, 0.4]])
    found, expected = (start.clone().requires_grad_() for _ in range(2))
    fit = MaskTraining(epochs=6, batch_size=8, lr=0.9, warmup=2)
    minimise(lambda batch: batch.flatten(1) @ found.T, [found], images(), fit, on_step=lambda: None)
    cosine = [0.9 * (1 + torch.cos(torch.tensor(torch.pi * step / 4)).item()) / 2 for step in range(4)]
    descend(fit, torch.optim.SGD([expected], lr=0.9, momentum=0.9), expected, [0.3, 0.6, *cosine])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("arch", "optimizer", "lr"), [(LENET, "sgd", 4.0), ("timm:resnet18", "adam", 0.001)])
def test_the_network_decides_on_the_optimizer_unless_one_is_named(arch: str, optimizer: str, lr: float) -> None:
    fit = MaskTraining().for_network(arch)
    assert (fit.optimizer, fit.rate) == (optimizer, lr)
    assert MaskTraining(optimizer="rmsprop").for_network(arch).optimizer == "rmsprop"


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        (MaskTraining(weight_decay=-1), "`weight_decay` -1"),
        (TaskTraining(weight_decay=float("nan")), "`weight_decay` nan"),
        (MaskTraining(warmup=-1), "`warmup` -1"),
    ],
)
def test_what_cannot_be_meant_is_refused(fit: MaskTraining | TaskTraining, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_training(fit)


def test_warm_up_is_held_to_epochs_that_are_settled_by_the_images_too() -> None:
    with pytest.raises(UsageError, match="`warmup` 3: expected fewer than the 3 epochs"):
        MaskTraining(warmup=3).record(60_000)
    with pytest.raises(UsageError, match="`warmup` 7: expected fewer"):
        TaskTraining(warmup=7).record(60_000)


def test_the_bank_keeps_the_recipe_and_the_card_gives_the_command_that_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.impress"
    fit = MaskTraining(epochs=2, optimizer="adam", weight_decay=1e-4, warmup=1)
    create_bank(path, ["rotated-digits/0"], masks=Masks(density=0.2, allocation="erdos-renyi", random_masks=1), fit=fit)
    extend_bank(path, ["rotated-digits/90"], fit=MaskTraining(epochs=1))
    add_tasks(path, ["rotated-digits/15"], fit=TaskTraining(epochs=2, optimizer="rmsprop", weight_decay=0.01, warmup=1))
    bank = open_bank(path)
    one, random, later = bank.manifest.masks
    assert isinstance(one.fit, MaskTrainingRecord)
    assert (one.fit.optimizer, one.fit.lr, one.fit.weight_decay, one.fit.warmup) == ("adam", 0.001, 1e-4, 1)
    assert [plan.allocation for plan in (one, random, later)] == ["erdos-renyi"] * 3
    sizes = supermask_sizes(bank.backbone.masked_layers, 0.2, "erdos-renyi")
    assert all(bank.read_mask_record(index).ones == sizes for index in range(3))
    learned = bank.read_task_record("rotated-digits-15").fit
    assert isinstance(learned, TaskTrainingRecord)
    assert (learned.optimizer, learned.weight_decay, learned.warmup) == ("rmsprop", 0.01, 1)
    assert verify_bank(path).ok
    card = model_card(path, "a", rebuild=rebuilding_commands)
    rebuild = [line for line in card.splitlines() if line.startswith("impress ") and "rotated-digits/" in line]
    made, extended, added = rebuild
    assert "--allocation erdos-renyi" in made
    assert "--optimizer adam --weight-decay 0.0001 --warmup 1" in made
    assert "--allocation erdos-renyi" in extended
    assert "--optimizer" not in extended
    assert "--optimizer rmsprop --weight-decay 0.01 --warmup 1" in added


def test_a_bank_of_version_1_says_that_it_cannot_keep_it() -> None:
    for changed in ({"masks": Masks(allocation="erdos-renyi")}, {"fit": MaskTraining(optimizer="adam")}):
        with pytest.raises(BankMismatch, match=r"format version 1.*plain SGD"):
            extend_bank(GOLDEN_V1, ["rotated-digits/20"], **changed)
    with pytest.raises(BankMismatch, match="learned by plain Adam"):
        add_tasks(GOLDEN_V1, ["rotated-digits/20"], fit=TaskTraining(weight_decay=0.1))
