"""One batch of many tasks: the same answers as one task after the other, whatever the tasks are made of."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
import timm
import torch
from safetensors.torch import save_file

from impress_format import open_bank
from impress_format.bank import Bank
from impress_format.errors import TaskNotFound, UsageError
from impress_format.operations.pack import pack_tasks
from impress_format.parts.alpha import coefficients_of
from impress_format.parts.class_names import ClassSettings
from impress_format.parts.head import HEAD as HEAD_PART
from impress_format.parts.numbers import store
from impress_format.parts.table import stored_parts
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.record import TaskRecord
from impress_learn import LoadedBank, load_bank
from impress_learn.identify.candidates import Mixable
from impress_learn.identify.entropy import task_logits
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.running.mixed import mixed
from impress_learn.running.task_cache import cache_tasks
from impress_learn.training.config import MaskTraining, TaskTraining

CPU = torch.device("cpu")
ONE = TaskTraining(epochs=1)


def one_by_one(loaded: LoadedBank, images: torch.Tensor, tasks: list[str]) -> torch.Tensor:
    each = [loaded.logits(loaded.task_weights(name), image[None]) for name, image in zip(tasks, images, strict=True)]
    most = max(logits.shape[1] for logits in each)
    return torch.cat(
        [torch.nn.functional.pad(logits, (0, most - logits.shape[1]), value=-torch.inf) for logits in each]
    )


def store_random(bank: Bank, name: str, *, granularity: int = 1, masks: int | None = None, seed: int = 0) -> None:
    """A task that weighs the first masks by random numbers."""
    count = bank.complete_masks() if masks is None else masks
    columns = sum(min(granularity, layer.shape[0]) for layer in bank.backbone.masked_layers)
    alpha = np.random.default_rng(seed).normal(size=(count, columns)).astype(np.float32)
    record = TaskRecord(
        name=name,
        task=f"rotated-digits/{seed}",
        basis=bank.basis_digest(count),
        accuracy=0.5,
        train_accuracy=0.5,
        fit=TaskTrainingRecord(epochs=1, lr=0.03),
        settings=small_bank.settings(granularity=granularity),
    )
    bank.write_task(record, stored_parts(alpha=store(alpha, "int8")))


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    path = tmp_path_factory.mktemp("mixed") / "a.impress"
    create_bank(path, ["rotated-digits/0"], masks=Masks(masks_per_task=0, random_masks=4))
    bank = open_bank(path)
    for seed, granularity in enumerate((1, 1, 2, 4, 3)):
        store_random(bank, f"t{seed}", granularity=granularity, seed=seed)
    store_random(bank, "few", masks=2, seed=9)
    pack_tasks(bank)
    add_tasks(path, ["rotated-digits/30"], parts=Parts(residual=800), fit=ONE, name="residual")
    add_tasks(path, ["rotated-digits/60"], parts=Parts(hybrid=True), fit=ONE, name="hybrid")
    return open_bank(path)


def test_tasks_of_every_kind_answer_as_alone(lenet: Bank) -> None:
    loaded = load_bank(lenet, CPU)
    names = ["t0", "few", "residual", "t1", "t2", "hybrid", "t3", "t0", "t4", "residual"]
    images = torch.randn(len(names), *lenet.backbone.input_shape, generator=torch.Generator().manual_seed(0))
    found = mixed(loaded, images, names)
    torch.testing.assert_close(found, one_by_one(loaded, images, names), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[0], found[7])  # other images


def test_kept_tasks_answer_as_those_that_are_read(lenet: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed ones, loose ones, and beside them those that are not kept, as their residual has to be built."""
    store_random(lenet, "loose", granularity=2, seed=7)
    bank = open_bank(lenet.path)
    loaded, cache = load_bank(bank, CPU), cache_tasks(bank)
    assert set(cache.places) == {"t0", "t1", "t2", "t3", "t4", "few", "loose"}
    names = ["t3", "residual", "loose", "t0", "few", "t1", "t0", "hybrid", "t4", "t2"]
    images = torch.randn(len(names), *bank.backbone.input_shape, generator=torch.Generator().manual_seed(0))
    expected = mixed(loaded, images, names)
    assert torch.equal(mixed(loaded, images, names, cache), expected)
    rest = [row for row, name in enumerate(names) if name in cache]
    monkeypatch.setattr(Bank, "read_stored", lambda *_: pytest.fail("read again"))
    assert torch.equal(mixed(loaded, images[rest], [names[row] for row in rest], cache), expected[rest])


def test_tasks_that_were_kept_of_another_bank_are_refused(lenet: Bank, tmp_path: Path) -> None:
    other = create_bank(tmp_path / "b.impress", ["rotated-digits/0"], masks=Masks(masks_per_task=0, random_masks=1))
    with pytest.raises(UsageError, match="are kept of"):
        mixed(load_bank(lenet, CPU), torch.zeros(1, *lenet.backbone.input_shape), ["t0"], cache_tasks(other))


def test_a_task_that_is_stored_after_others_were_kept_is_read(lenet: Bank) -> None:
    bank = open_bank(lenet.path)
    loaded, cache = load_bank(bank, CPU), cache_tasks(bank)
    store_random(bank, "late", seed=11)
    images = torch.randn(2, *bank.backbone.input_shape)
    found = mixed(loaded, images, ["late", "t0"], cache)
    torch.testing.assert_close(found, one_by_one(loaded, images, ["late", "t0"]), rtol=1e-4, atol=1e-4)


def test_no_weights_of_a_task_that_weighs_masks_are_built(lenet: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_bank(lenet, CPU)
    monkeypatch.setattr("impress_learn.masks.basis.effective_weights", lambda *_: pytest.fail("built"))
    images = torch.randn(3, *lenet.backbone.input_shape)
    assert mixed(loaded, images, ["t0", "t2", "few"]).shape == (3, 10)


def test_masks_that_are_packed_are_multiplied_by_too(lenet: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impress_learn.masks.basis.AT_MOST", 1)
    loaded = load_bank(lenet, CPU)
    images, names = torch.randn(4, *lenet.backbone.input_shape), ["t0", "t3", "few", "t1"]
    torch.testing.assert_close(mixed(loaded, images, names), one_by_one(loaded, images, names), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arch", "side"),
    [("timm:test_vit", 32), ("timm:test_efficientnet_ln", 32), ("timm:resnet18", 32), ("timm:sequencer2d_s", 28)],
)
def test_networks_of_other_layers(tmp_path: Path, arch: str, side: int) -> None:
    """Of tokens, of grouped convolutions, of norms whose statistics a task's weights decide about, of LSTM."""
    create_bank(
        tmp_path / "a.impress",
        ["rotated-digits/0"],
        network=Network(backbone=arch, image_size=side),
        masks=Masks(masks_per_task=0, random_masks=2),
    )
    bank = open_bank(tmp_path / "a.impress")
    for seed, granularity in enumerate((1, 3)):
        store_random(bank, f"t{seed}", granularity=granularity, seed=seed)
    loaded = load_bank(bank, CPU)
    images = torch.randn(3, *bank.backbone.input_shape, generator=torch.Generator().manual_seed(0))
    found, expected = (ask(loaded, images, ["t0", "t1", "t0"]) for ask in (mixed, one_by_one))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    cache = mixed(loaded, images, ["t0", "t1", "t0"], cache_tasks(bank))
    torch.testing.assert_close(cache, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    alone = torch.from_numpy(coefficients_of(bank.read_stored("t0")))[None]
    each = task_logits(loaded, Mixable(alone, 1, torch.tensor([10])), images)[0]
    torch.testing.assert_close(each[[0, 2]], expected[[0, 2]], rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_heads_of_other_numbers_of_classes_share_one_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(tmp_path / "kept"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), tmp_path / "weights.safetensors")
    path = tmp_path / "a.impress"
    create_bank(
        path,
        ["rotated-digits/0"],
        network=Network(backbone="timm:test_resnet", weights=str(tmp_path / "weights.safetensors"), image_size=32),
        masks=Masks(masks_per_task=0, random_masks=1),
        fit=MaskTraining(holdout=0.1),
    )
    add_tasks(path, ["rotated-digits/30"], fit=ONE, name="head")
    add_tasks(path, ["rotated-digits/50"], fit=ONE, name="small", parts=Parts(head=8, head_bits=4))
    add_tasks(path, ["rotated-digits/60"], fit=ONE, name="both", parts=Parts(residual=800))
    add_tasks(path, ["rotated-digits/70"], fit=ONE, name="alpha", parts=Parts(alpha=True))
    bank = open_bank(path)
    record, head = bank.read_task_record("small"), HEAD_PART.of(bank.read_stored("small"))
    assert head is not None
    few = msgspec.structs.replace(
        record,
        name="three",
        task="rotated-digits/80",
        settings=msgspec.structs.replace(record.settings, classes=ClassSettings(count=3)),
    )
    from impress_format.parts.head import store_head

    codes = np.ones((3, 8), dtype=np.uint8)
    bank.write_task(few, stored_parts(head=store_head(codes, np.ones(3, np.float16), np.zeros(3, np.float16), 4)))
    loaded = load_bank(bank, CPU)
    names = ["head", "three", "both", "alpha", "small", "head"]
    images = torch.randn(len(names), 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = mixed(loaded, images, names)
    torch.testing.assert_close(found, one_by_one(loaded, images, names), rtol=1e-3, atol=1e-3)
    assert found.shape == (6, 10)
    for packed in (False, True):
        if packed:
            pack_tasks(bank)
        cache = cache_tasks(open_bank(path))
        assert {"head", "three", "small", "alpha"} == set(cache.places)
        torch.testing.assert_close(mixed(loaded, images, names, cache), found)
    assert found[1, 3:].isneginf().all()


def test_what_does_not_fit_together_is_refused(lenet: Bank) -> None:
    loaded, images = load_bank(lenet, CPU), torch.zeros(2, *lenet.backbone.input_shape)
    with pytest.raises(UsageError, match="2 images and 1 tasks"):
        mixed(loaded, images, ["t0"])
    with pytest.raises(UsageError, match="0 images"):
        mixed(loaded, images[:0], [])
    with pytest.raises(TaskNotFound):
        mixed(loaded, images, ["t0", "none"])
