"""The whole jobs: what could stop one is found before it begins, and a command given again has nothing to do."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from impress_format.bank import open_bank
from impress_format.errors import (
    BankMismatch,
    DataError,
    FormatError,
    OutOfMemory,
    StorageError,
    TaskExists,
    TrainingDiverged,
    UsageError,
)
from impress_format.operations.verify import verify_bank
from impress_format.parts.table import stored_parts
from impress_learn.jobs import add_tasks, create_bank, evaluate, extend_bank, update_task
from impress_learn.jobs import making as train_module
from impress_learn.masks import edge_popup as supermask_module
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.progress import Progress
from impress_learn.running.memory import explain_memory
from impress_learn.tasks import learn as tasks_module
from impress_learn.training.config import MaskTraining, TaskTraining

MASKS = ("rotated-digits/0:180:90",)
QUICK_MASKS = MaskTraining(epochs=1)
QUICK = TaskTraining(epochs=1)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two masks, and one task that was learned over them."""
    path = tmp_path_factory.mktemp("small") / "small.impress"
    create_bank(path, MASKS, fit=QUICK_MASKS)
    add_tasks(path, ["rotated-digits/45"], fit=QUICK)
    return path


@pytest.fixture
def bank(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "small.impress"))


@pytest.fixture
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, should it begin, fails the test."""

    def began(*_: object, **__: object) -> None:
        raise AssertionError("it began to train")

    for module, name in ((supermask_module, "minimise"), (tasks_module, "train_parts")):
        monkeypatch.setattr(module, name, began)


# Given again


@pytest.mark.usefixtures("nothing_is_trained")
def test_every_job_given_again_succeeds_and_changes_nothing(bank: Path) -> None:
    before = contents(bank)
    remarks: list[str] = []
    progress = Progress(remark=remarks.append)
    assert create_bank(bank, MASKS, fit=QUICK_MASKS, progress=progress) == open_bank(bank)
    assert extend_bank(bank, MASKS, fit=QUICK_MASKS, progress=progress) == open_bank(bank)
    (task,) = add_tasks(bank, ["rotated-digits/45"], fit=QUICK, progress=progress)
    assert (task.name, task.seconds) == ("rotated-digits-45", 0.0)
    assert len(remarks) == 3
    assert contents(bank) == before


def test_what_is_stored_already_is_listed_beside_what_is_learned(bank: Path) -> None:
    tasks = add_tasks(bank, ["rotated-digits/44:46"], fit=QUICK)
    assert [(task.name, task.seconds > 0) for task in tasks] == [
        ("rotated-digits-44", True), ("rotated-digits-45", False),
    ]  # fmt: skip


# Found before


@pytest.mark.usefixtures("nothing_is_trained")
def test_missing_data_leave_no_plan_that_refuses_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(DataError, match="use rotated-digits"):
        create_bank(tmp_path / "new.impress", ["rotated-mnist/0"], data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_after_a_first_mask_that_diverged_the_advice_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new.impress"

    def diverges(*_: object, **__: object) -> None:
        raise TrainingDiverged("training diverged at step 3: lower the learning rate, for example `lr` 0.4")

    monkeypatch.setattr(train_module, "train_supermask", diverges)
    with pytest.raises(TrainingDiverged, match="for example `lr` "):
        create_bank(path, MASKS, fit=QUICK_MASKS)
    monkeypatch.undo()
    assert create_bank(path, MASKS, fit=MaskTraining(epochs=1, lr=1.0)).missing_masks() == []


@pytest.mark.usefixtures("nothing_is_trained")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_is_found_before_training(
    bank: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    before = contents(bank)
    sync = os.fsync

    def full(descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_size >= 4096:  # the probe; a small file still fits
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    for job in (
        lambda: add_tasks(bank, ["rotated-digits/46"], fit=QUICK),
        lambda: update_task(bank, "rotated-digits-45", "rotated-digits/46", fit=QUICK),
        lambda: extend_bank(bank, ["rotated-digits/10"], fit=QUICK_MASKS),
    ):
        with pytest.raises(StorageError, match=f"{os.strerror(code)}. Nothing was started"):
            job()
    assert contents(bank) == before


@pytest.mark.usefixtures("nothing_is_trained")
def test_missing_calibration_images_are_found_before_a_mask_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "norm.impress"
    references = ["rotated-digits/0"]
    create_bank(
        path, references, network=Network(backbone="timm:test_resnet"), masks=Masks(masks_per_task=0, random_masks=1)
    )
    (path / "calibration.safetensors").unlink()
    with pytest.raises(FormatError, match=r"calibration.safetensors: is missing"):
        extend_bank(path, references, fit=QUICK_MASKS)


@pytest.mark.usefixtures("nothing_is_trained")
def test_a_taken_name_is_found_before_training(bank: Path) -> None:
    with pytest.raises(TaskExists, match="rotated-digits-45"):
        add_tasks(bank, ["rotated-digits/44:46"], fit=TaskTraining(epochs=2))
    with pytest.raises(TaskExists, match="rotated-digits-45"):
        add_tasks(bank, ["rotated-digits/46"], name="rotated-digits-45", fit=QUICK)


@pytest.mark.usefixtures("nothing_is_trained")
def test_settings_are_named_by_their_fields(bank: Path) -> None:
    with pytest.raises(UsageError, match=r"^`granularity` 0: expected"):
        add_tasks(bank, ["rotated-digits/46"], parts=Parts(granularity=0))
    with pytest.raises(UsageError, match=r"^`density` 2.0: expected"):
        extend_bank(bank, ["rotated-digits/46"], masks=Masks(density=2.0))


# Held out


@pytest.mark.usefixtures("nothing_is_trained")
def test_a_basis_that_saw_the_images_cannot_be_measured_on_them(bank: Path) -> None:
    for job in (
        lambda: add_tasks(bank, ["rotated-digits/46"], fit=replace(QUICK, holdout=0.1)),
        lambda: add_tasks(
            bank, ["permuted-digits/46"], fit=replace(QUICK, holdout=0.1)
        ),  # the same images, in another order
        lambda: update_task(bank, "rotated-digits-45", "rotated-digits/46", fit=replace(QUICK, holdout=0.1)),
        lambda: evaluate(bank, holdout=0.1),
    ):
        with pytest.raises(UsageError, match=r"`holdout` 0.1: .* was trained on"):
            job()


def test_an_honest_basis_and_the_images_of_another_source_may_be(bank: Path, mnist_dir: Path) -> None:
    honest = create_bank(bank.with_name("honest.impress"), MASKS, fit=replace(QUICK_MASKS, holdout=0.1)).path
    (task,) = add_tasks(honest, ["rotated-digits/46"], fit=replace(QUICK, holdout=0.1))
    assert task.images == "held-out"
    (found,) = evaluate(honest, holdout=0.1)
    assert (round(found.accuracy, 4), found.images, found.samples) == (task.accuracy, "held-out", 130)
    (other,) = add_tasks(bank, ["rotated-mnist/3"], fit=replace(QUICK, holdout=0.9, shots=2), data_dir=mnist_dir)
    assert other.images == "held-out"


# Beside other processes


def test_an_update_beside_another_is_refused_and_loses_nothing(bank: Path) -> None:
    inside: list[str] = []

    def another(_: int) -> None:
        with pytest.raises(StorageError, match="another process is updating task rotated-digits-45") as refused:
            update_task(bank, "rotated-digits-45", "rotated-digits/50", fit=QUICK)
        inside.append(str(refused.value))

    updated = update_task(bank, "rotated-digits-45", "rotated-digits/46", fit=QUICK, progress=Progress(begin=another))
    assert len(inside) == 1
    assert updated.task == "rotated-digits/46"
    assert list((bank / "tasks").glob(".*")) == []


def test_a_task_that_was_changed_during_its_update_stays(bank: Path) -> None:
    opened = open_bank(bank)
    record, alpha = opened.read_task("rotated-digits-45")

    def changed(_: int) -> None:
        opened.write_task(record, stored_parts(alpha=-alpha), replace=True)

    with pytest.raises(BankMismatch, match="was changed by another process meanwhile"):
        update_task(bank, "rotated-digits-45", "rotated-digits/46", fit=QUICK, progress=Progress(begin=changed))
    assert (opened.read_task("rotated-digits-45")[1] == -alpha).all()
    assert verify_bank(bank).ok


def test_two_creates_at_once_do_not_share_a_bank(tmp_path: Path) -> None:
    path = tmp_path / "new.impress"

    def another(_: int) -> None:
        with pytest.raises(StorageError, match="another process is working"):
            create_bank(path, MASKS, fit=MaskTraining(seed=2), masks=Masks(masks_per_task=0, random_masks=1))

    progress = Progress(begin=another)
    assert (
        create_bank(
            path, MASKS, fit=MaskTraining(seed=1), masks=Masks(masks_per_task=0, random_masks=1), progress=progress
        ).backbone.seed
        == 1
    )


# Memory


def test_too_little_memory_is_one_line_with_what_would_fit() -> None:
    with (
        pytest.raises(
            OutOfMemory, match=r"on cpu in loading 9 masks, which takes [\d,.]+ GB more; .* free: 2 fit"
        ) as said,
        explain_memory("loading 9 masks", torch.device("cpu"), lambda _: "2 fit"),
    ):
        torch.empty(1 << 50)
    assert "\n" not in str(said.value)


def test_other_errors_of_torch_pass_through() -> None:
    with (
        pytest.raises(RuntimeError, match="shape"),
        explain_memory("nothing", torch.device("cpu"), lambda _: ""),
    ):
        torch.ones(2, 3).reshape(5)


def test_a_batch_that_does_not_fit_names_a_smaller_one(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "train_parts", lambda *_, **__: torch.empty(1 << 50))
    with pytest.raises(
        OutOfMemory, match=r"learning rotated-digits-46 with batches of 512 images.*try `batch_size` 128"
    ):
        add_tasks(bank, ["rotated-digits/46"], fit=replace(QUICK, batch_size=512))
