"""An exported task is the same network without this project: its own printed lines load it, and logits agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors import safe_open
from safetensors.torch import save_file

from impress_format import open_bank
from impress_format.errors import StorageError, TaskNotFound, UsageError
from impress_learn.export import export_weights, loading_lines
from impress_learn.fits import TaskFit
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.loaded import load_bank
from impress_learn.network.build import build_backbone

CPU = torch.device("cpu")


def make(path: Path, backbone: str, **parts: object) -> None:
    create_bank(path, ["rotated-digits/0"], backbone=backbone, masks_per_task=0, random_masks=2)
    add_tasks(path, ["rotated-digits/15"], fit=TaskFit(epochs=1), **parts)  # type: ignore[arg-type]


def outside(lines: str, images: np.ndarray, folder: Path) -> np.ndarray:
    """Logits of the printed lines in a process that has nothing of this project."""
    np.save(folder / "images.npy", images)
    code = f"""
import sys
{lines}
import numpy, torch
with torch.no_grad():
    numpy.save("logits.npy", net(torch.from_numpy(numpy.load("images.npy"))).numpy())
assert not any(name.startswith("impress") for name in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.asarray(np.load(folder / "logits.npy"))


@pytest.mark.parametrize(
    ("backbone", "parts"),
    [
        ("lenet-300-100", {}),
        ("lenet-300-100", {"granularity": 3, "residual": 800, "hybrid": True}),
        ("lenet-300-100", {"alpha": False, "residual": 1600, "residual_bits": 4}),
        ("timm:test_resnet", {"residual": 800}),
        ("resnet-18-nf2", {"residual": 800}),
    ],
)
def test_the_printed_lines_load_the_same_network(tmp_path: Path, backbone: str, parts: dict[str, object]) -> None:
    bank = tmp_path / "a.impress"
    make(bank, backbone, **parts)
    file = tmp_path / 'a "task".safetensors'
    written = export_weights(bank, "rotated-digits/15", file)
    assert written.bytes == file.stat().st_size
    loaded = load_bank(open_bank(bank), CPU)
    images = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    expected = loaded.logits(loaded.task_weights("rotated-digits-15"), torch.from_numpy(images)).numpy()
    found = outside(written.load, images, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * float(np.abs(expected).max()))


def test_the_lines_for_a_vision_transformer_name_its_image_size(tmp_path: Path) -> None:
    """No stream has images that a ViT can cut into patches yet: its network is written without a bank."""
    vit = build_backbone("timm:test_vit", init="signed-constant", seed=0, input_shape=(1, 32, 32), classes=10)
    effective = {name: 0.5 * weight for name, weight in vit.weights.items()}
    file = tmp_path / "task.safetensors"
    save_file({**vit.module.state_dict(), **effective}, file)
    images = np.random.default_rng(0).standard_normal((4, 1, 32, 32)).astype(np.float32)
    expected = vit(effective, torch.from_numpy(images)).numpy()
    found = outside(loading_lines(vit, 10, file), images, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * float(np.abs(expected).max()))


def test_metadata_say_how_an_image_becomes_an_input(tmp_path: Path) -> None:
    make(tmp_path / "a.impress", "lenet-300-100")
    export_weights(tmp_path / "a.impress", "rotated-digits-15", tmp_path / "task.safetensors")
    with safe_open(tmp_path / "task.safetensors", "np") as file:
        (text,) = file.metadata().values()
    described = json.loads(text)
    assert described["preprocess"]["size"] == [28, 28]
    assert (described["task"], described["arch"]) == ("rotated-digits/15", "lenet-300-100")
    assert described["class_names"] == [str(digit) for digit in range(10)]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "a.impress", "lenet-300-100")
    file = tmp_path / "task.safetensors"
    file.write_bytes(b"mine")
    with pytest.raises(StorageError, match="there already"):
        export_weights(tmp_path / "a.impress", "rotated-digits-15", file)
    assert file.read_bytes() == b"mine"
    with pytest.raises(TaskNotFound):
        export_weights(tmp_path / "a.impress", "rotated-digits-16", tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("backbone", "parts"),
    [
        ("lenet-300-100", {"granularity": 3, "residual": 800, "hybrid": True}),
        ("timm:test_resnet", {"residual": 800}),
        ("timm:test_vit", {}),
    ],
)
def test_an_onnx_graph_gives_the_same_logits_for_any_batch(
    tmp_path: Path, backbone: str, parts: dict[str, object]
) -> None:
    bank, file = tmp_path / "a.impress", tmp_path / "a.onnx"
    if backbone == "timm:test_vit":
        create_bank(bank, ["rotated-digits/0"], backbone=backbone, masks_per_task=0, random_masks=2, image_size=64)
        add_tasks(bank, ["rotated-digits/15"], fit=TaskFit(epochs=1))
    else:
        make(bank, backbone, **parts)
    written = export_weights(bank, "rotated-digits/15", file, file_format="onnx")
    assert written.format == "onnx"
    loaded = load_bank(open_bank(bank), CPU)
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    described = json.loads({one.key: one.value for one in model.metadata_props}["impress"])
    assert described["task"] == "rotated-digits/15"
    evaluator = ReferenceEvaluator(model)
    for count in (1, 3):
        images = torch.randn(count, *loaded.bank.backbone.input_shape, generator=torch.Generator().manual_seed(count))
        expected = loaded.logits(loaded.task_weights("rotated-digits-15"), images).numpy()
        outputs = evaluator.run(["logits"], {"images": images.numpy()})
        assert isinstance(outputs, list)
        np.testing.assert_allclose(np.asarray(outputs[0]), expected, rtol=1e-4, atol=1e-4)


def test_without_the_packages_onnx_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = tmp_path / "a.impress"
    make(bank, "lenet-300-100")
    monkeypatch.setattr("impress_learn.export.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'impresslearn\[onnx\]'"):
        export_weights(bank, "rotated-digits/15", tmp_path / "a.onnx", file_format="onnx")
    assert not (tmp_path / "a.onnx").exists()
