"""Making a bank: every mask depends on its own plan alone, so that an interruption leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from planned import planned_bank

from impress_format.bank import Bank, open_bank
from impress_format.bank_files.calibration import CALIBRATION
from impress_format.errors import StorageError, TrainingDiverged
from impress_learn.jobs import making as train_module
from impress_learn.jobs.making import ensure_calibration_images, sole_trainer, train_missing_masks
from impress_learn.masks.edge_popup import train_supermask
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone
from impress_learn.plan.asked import Masks
from impress_learn.plan.bank import mask_steps, plan_masks
from impress_learn.progress import Progress
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_references
from impress_learn.training.config import MaskTraining

CPU = torch.device("cpu")
NOWHERE = Path("nowhere")
STEPS = 1297 // 64


def bank_at(path: Path, backbone: Backbone, *texts: str, random_masks: int = 0, lr: float = 4.0) -> Bank:
    """A bank with one epoch planned for one mask of each task, nothing trained."""
    plans = plan_masks(
        parse_references(texts),
        MaskTraining(epochs=1, lr=lr),
        Masks(masks_per_task=1, random_masks=random_masks, density=0.1),
    )
    return planned_bank(path, backbone, plans)


def train(bank: Bank, on_step: Callable[[], None] = lambda: None) -> list[int]:
    """Train what is missing; the indices that were announced."""
    announced: list[str] = []
    progress = Progress(describe=announced.append, step=on_step)
    train_missing_masks(bank, data_dir=NOWHERE, device=CPU, progress=progress)
    return [int(text.removeprefix("mask ").partition(" of ")[0]) - 1 for text in announced]


def files(bank: Bank) -> dict[str, bytes]:
    """Every file of a bank but hidden ones, by its path in the bank."""
    return {
        str(path.relative_to(bank.path)): path.read_bytes()
        for path in sorted(bank.path.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


TASKS = ("rotated-digits/0", "rotated-digits/90", "rotated-digits/180")


@pytest.fixture(scope="module")
def undisturbed(lenet: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """Three trained masks and a random one, made in one go."""
    bank = bank_at(tmp_path_factory.mktemp("undisturbed") / "a.impress", lenet, *TASKS, random_masks=1)
    assert train(bank) == [0, 1, 2, 3]
    return bank


@pytest.mark.parametrize("at", [1, STEPS + 3, 2 * STEPS, 3 * STEPS])
def test_interrupted_training_is_taken_up_and_ends_with_the_same_bytes(
    undisturbed: Bank, lenet: Backbone, tmp_path: Path, at: int
) -> None:
    bank = bank_at(tmp_path / "b.impress", lenet, *TASKS, random_masks=1)
    done = 0

    def interrupt() -> None:
        nonlocal done
        done += 1
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(bank, interrupt)
    finished = (at - 1) // STEPS
    assert open_bank(bank.path).missing_masks() == list(range(finished, 4))

    again = bank_at(tmp_path / "b.impress", lenet, *TASKS, random_masks=1)
    assert train(again) == list(range(finished, 4))
    assert files(again) == files(undisturbed)


def test_masks_do_not_depend_on_the_order_they_are_trained_in(
    undisturbed: Bank, lenet: Backbone, tmp_path: Path
) -> None:
    bank = bank_at(tmp_path / "b.impress", lenet, *TASKS, random_masks=1)
    bank.mask_path(0).write_bytes(b"stands in, so that mask 0 is trained last")
    train(bank)
    bank.mask_path(0).unlink()
    torch.manual_seed(31)
    assert train(bank) == [0]
    assert files(bank) == files(undisturbed)


def test_a_complete_bank_is_left_alone(undisturbed: Bank) -> None:
    before = files(undisturbed)
    assert train(undisturbed) == []
    assert files(undisturbed) == before


def test_steps_are_those_that_training_takes(lenet: Backbone, tmp_path: Path) -> None:
    bank = bank_at(tmp_path / "b.impress", lenet, *TASKS, random_masks=5)
    assert [mask_steps(plan) for plan in bank.manifest.masks] == [STEPS] * 3 + [0] * 5
    calls: list[None] = []
    train(bank, lambda: calls.append(None))
    assert len(calls) == 3 * STEPS


def test_stored_accuracy_of_a_mask_is_that_of_its_weights_on_the_test_images(
    undisturbed: Bank, lenet: Backbone
) -> None:
    data = load_task(parse_references([TASKS[1]])[0], data_dir=NOWHERE)
    record, masks = undisturbed.read_mask(1)
    images, labels = data.test.batch(slice(None))
    hidden = images.flatten(1).double().numpy()
    for number, (name, weight) in enumerate(lenet.weights.items()):
        hidden = hidden @ (weight.double().numpy() * masks[name]).T
        hidden = np.maximum(hidden, 0.0) if number < 2 else hidden
    assert record.accuracy == pytest.approx(float((hidden.argmax(1) == labels.numpy()).mean()), abs=1 / 500)
    assert record.accuracy is not None
    assert record.accuracy > 0.3


def test_random_masks_have_no_accuracy_and_the_planned_ones(undisturbed: Bank) -> None:
    record, masks = undisturbed.read_mask(3)
    assert record.accuracy is None
    assert [int(mask.sum()) for mask in masks.values()] == [23_520, 3_000, 100]


def test_a_second_trainer_of_one_bank_is_refused(undisturbed: Bank) -> None:
    with sole_trainer(undisturbed.path), pytest.raises(StorageError), sole_trainer(undisturbed.path):
        pass
    with sole_trainer(undisturbed.path):
        pass


def test_diverged_training_names_the_mask_and_stores_nothing_for_it(
    lenet: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = bank_at(tmp_path / "b.impress", lenet, *TASKS)
    real = train_supermask
    calls: list[None] = []

    def second_diverges(*args: object, **settings: object) -> object:
        calls.append(None)
        if len(calls) == 2:
            raise TrainingDiverged("training diverged at step 3: --lr 0.4")
        return real(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(train_module, "train_supermask", second_diverges)
    with pytest.raises(TrainingDiverged, match=r"mask 1 \(rotated-digits/90\): training diverged at step 3"):
        train(bank)
    assert bank.missing_masks() == [1, 2]


def test_no_calibration_images_are_kept_for_a_network_without_batch_norm(undisturbed: Bank) -> None:
    ensure_calibration_images(undisturbed, parse_references(TASKS), data_dir=NOWHERE, holdout=0.0)
    assert not undisturbed.files.path(CALIBRATION).exists()


@pytest.mark.parametrize("tasks", [1, 3, 256, 300])
def test_calibration_images_are_256_training_images_shared_evenly_by_the_tasks(tmp_path: Path, tasks: int) -> None:
    backbone = build_backbone("timm:test_resnet", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    references = parse_references([f"rotated-digits/0:{tasks}"])
    bank = bank_at(tmp_path / "b.impress", backbone, "rotated-digits/0")
    ensure_calibration_images(bank, references, data_dir=NOWHERE, holdout=0.0)
    record, calibration = bank.files.read(CALIBRATION)
    pixels = calibration.pixels
    assert pixels.shape == (256, 1, 28, 28)
    assert (record.mean, record.std) == ((0.3059,), (0.3240,))

    for index in (0, 1, 85, 86, 128, 255):
        reference = references[index * tasks // 256]
        train = load_task(reference, data_dir=NOWHERE).train.pixels_of(slice(None))
        assert pixels[index].tobytes() in {image.numpy().tobytes() for image in train}


def test_calibration_images_once_kept_stay(tmp_path: Path) -> None:
    backbone = build_backbone("timm:test_resnet", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    bank = bank_at(tmp_path / "b.impress", backbone, "rotated-digits/0")
    ensure_calibration_images(bank, parse_references(["rotated-digits/0"]), data_dir=NOWHERE, holdout=0.0)
    before = bank.files.path(CALIBRATION).read_bytes()
    ensure_calibration_images(bank, parse_references(["rotated-digits/200"]), data_dir=NOWHERE, holdout=0.0)
    assert bank.files.path(CALIBRATION).read_bytes() == before
