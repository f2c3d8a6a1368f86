"""A bank of version 1 becomes one of version 2: nothing it answers changes, and a killed upgrade goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

import impress_format.operations.upgrade
from impress_format import open_bank, verify_bank
from impress_format.disk.files import write_atomically
from impress_format.errors import BankMismatch, FormatError
from impress_format.operations.create import write_plan
from impress_format.operations.pack import pack_tasks
from impress_format.records.masks import MaskPlan
from impress_learn import load_bank
from impress_learn.jobs.upgrade import upgrade_bank

V1 = Path(__file__).parents[1] / "golden" / "v1"
FILES = 5  # manifest, two masks, two tasks


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(V1 / "digits.impress", tmp_path / "a.impress"))


def test_an_upgraded_bank_answers_as_before(old: Path) -> None:
    before = open_bank(old)
    assert upgrade_bank(old) == FILES
    assert verify_bank(old).ok
    bank = open_bank(old)
    assert bank.manifest.format_version == 2
    assert bank.manifest.preprocess is not None
    assert (bank.manifest.preprocess.mode, bank.manifest.preprocess.size) == ("L", (28, 28))
    assert bank.manifest.class_names == tuple("0123456789")
    assert (bank.manifest.made_with, bank.manifest.seed) == (None, before.backbone.seed)
    assert bank.backbone.logits is not None
    assert msgspec.structs.replace(bank.backbone, logits=None) == before.backbone
    assert bank.manifest.masks == before.manifest.masks
    expected = json.loads((V1 / "expected.json").read_text())["tasks"]
    images = torch.from_numpy(np.load(V1 / "input.npy", allow_pickle=False)).reshape(-1, 1, 28, 28)
    loaded = load_bank(bank, torch.device("cpu"))
    for name, task in expected.items():
        assert bank.read_task(name)[1].tolist() == task["alpha"]
        torch.testing.assert_close(loaded.logits(loaded.task_weights(name), images), torch.tensor(task["logits"]))
    assert upgrade_bank(old) == 0
    assert pack_tasks(bank).tasks == len(expected)


@pytest.mark.parametrize("writes", range(FILES))
def test_an_upgrade_that_is_stopped_leaves_a_whole_bank_and_goes_on(
    old: Path, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(range(writes))

    def write(path: Path, content: bytes, *, replace: bool) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        write_atomically(path, content, replace=replace)

    monkeypatch.setattr(impress_format.operations.upgrade, "write_atomically", write)
    with pytest.raises(KeyboardInterrupt):
        upgrade_bank(old)
    assert verify_bank(old).ok
    assert len(open_bank(old).task_names()) == 2
    monkeypatch.undo()
    assert upgrade_bank(old) == FILES - writes
    assert verify_bank(old).ok


def test_a_file_of_version_2_does_not_belong_in_a_bank_of_version_1(old: Path, tmp_path: Path) -> None:
    new = Path(shutil.copytree(old, tmp_path / "b.impress"))
    upgrade_bank(new)
    for file in ("masks/00000.safetensors", "tasks/rotated-digits-30.safetensors"):
        bank = Path(shutil.copytree(V1 / "digits.impress", tmp_path / file.replace("/", "-")))
        shutil.copy(new / file, bank / file)
        (problem,) = verify_bank(bank).problems
        assert (problem.file, problem.error) == (file, "has format version 2, the bank 1")


def test_a_damaged_bank_is_not_upgraded(old: Path) -> None:
    mask = old / "masks" / "00000.safetensors"
    mask.write_bytes(mask.read_bytes()[:-1] + b"\xff")
    with pytest.raises(FormatError, match="damaged"):
        upgrade_bank(old)
    assert open_bank(old).manifest.format_version == 1


def test_a_bank_that_does_not_say_what_its_images_are_is_not_upgraded(tmp_path: Path) -> None:
    manifest = open_bank(V1 / "digits.impress").manifest
    random = MaskPlan(kind="random", task=None, density=0.1, seed=1, fit=None)
    write_plan(tmp_path / "a.impress", msgspec.structs.replace(manifest, masks=(random,)))
    with pytest.raises(BankMismatch, match="create it anew"):
        upgrade_bank(tmp_path / "a.impress")
