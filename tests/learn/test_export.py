"""An exported task is the same network without this project: its own printed lines load it, and logits agree."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors import safe_open

from impress_format import open_bank
from impress_format.errors import ExportFailed, StorageError, TaskNotFound, UsageError
from impress_format.records.network import LayerSpec
from impress_learn import load_bank
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.jobs.export import PlainFile, export_weights, write_network
from impress_learn.network import plain_network
from impress_learn.network.backbone import Backbone, bind
from impress_learn.network.build import build_backbone
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.network.plain_check import check_loaded
from impress_learn.network.probe import probe_images
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.training.config import TaskTraining

CPU = torch.device("cpu")


def make(path: Path, backbone: str, **parts: Any) -> None:
    create_bank(
        path, ["rotated-digits/0"], network=Network(backbone=backbone), masks=Masks(masks_per_task=0, random_masks=2)
    )
    add_tasks(path, ["rotated-digits/15"], fit=TaskTraining(epochs=1), parts=Parts(**parts))


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


def plain(arch: str, side: int, file: Path) -> PlainFile:
    """A file of a network with all weights halved, written and held to it as `impress export` does."""
    backbone = build_backbone(arch, init="signed-constant", seed=0, input_shape=(1, side, side), classes=10)
    return write_network(backbone, halved(backbone), 10, file, file_format="safetensors", metadata={})


def halved(backbone: Backbone) -> dict[str, torch.Tensor]:
    effective = {name: 0.5 * weight for name, weight in backbone.weights.items()}
    images = probe_images(backbone.spec) if backbone.has_batch_norm else None
    return {**with_statistics(backbone, effective, images)}


@pytest.mark.parametrize(
    ("arch", "side"),
    [
        ("test_coatnet", 96),
        ("test_vit", 64),
        ("levit_128s", 32),
        ("gmlp_ti16_224", 32),
        ("tnt_s_legacy_patch16_224", 32),
        ("coat_tiny", 32),
    ],
)
def test_networks_load_at_sizes_they_were_not_made_for(tmp_path: Path, arch: str, side: int) -> None:
    """One of every module of timm, likewise: tests/learn/test_timm_table.py."""
    assert plain(f"timm:{arch}", side, tmp_path / "a.safetensors").apart < 1e-5


def test_the_lines_that_were_tried_are_those_that_are_printed(tmp_path: Path) -> None:
    """test_coatnet has its image size in its weights, and not where vision transformers have theirs."""
    file = tmp_path / "a.safetensors"
    written = plain("timm:test_coatnet", 96, file)
    assert "img_size=(96, 96)" in written.load
    images = np.random.default_rng(0).standard_normal((4, 1, 96, 96)).astype(np.float32)
    backbone = build_backbone("timm:test_coatnet", init="signed-constant", seed=0, input_shape=(1, 96, 96), classes=10)
    with torch.no_grad():
        expected = backbone(halved(backbone), torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(outside(written.load, images, tmp_path), expected, rtol=1e-5, atol=1e-5)


class TwoNames(torch.nn.Module):
    """A layer under two names, as CoaT has its encodings."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.ModuleList([torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 4, 3, padding=1)])
        self.alias = self.body[1]
        self.head = torch.nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.alias(self.body[1](self.body[0](images).relu()).relu())
        logits: torch.Tensor = self.head(found.mean((2, 3)))
        return logits


def test_a_layer_of_two_names_is_the_same_in_a_graph(tmp_path: Path, lenet: Backbone) -> None:
    module = TwoNames().requires_grad_(False).eval()
    layers = tuple(
        LayerSpec(name=name, shape=tuple(weight.shape))
        for name, weight in module.named_parameters()
        if name.endswith("weight")
    )
    backbone = bind(msgspec.structs.replace(lenet.spec, layers=layers), module)
    state = plain_network.plain_state(backbone, halved(backbone))
    assert torch.equal(state["alias.weight"], 0.5 * backbone.weights["body.1.weight"])
    assert torch.equal(state["alias.weight"], state["body.1.weight"])
    file = tmp_path / "a.onnx"
    assert write_network(backbone, halved(backbone), 10, file, file_format="onnx", metadata={}).apart < 1e-5


class ManyWindows(torch.nn.Module):
    """timm's attention over windows: five dimensions, which torch's exporter takes only written out."""

    def __init__(self) -> None:
        super().__init__()
        self.fused_attn = True
        self.head = torch.nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = images.reshape(-1, 1, 2, 49, 8)
        if self.fused_attn:
            found = torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        else:
            found = (tokens @ tokens.mT * 8.0**-0.5).softmax(-1) @ tokens
        logits: torch.Tensor = self.head(found.mean((1, 2, 3)))
        return logits


def test_attention_over_windows_is_written_as_a_graph(tmp_path: Path, lenet: Backbone) -> None:
    module = ManyWindows().requires_grad_(False).eval()
    layer = LayerSpec(name="head.weight", shape=(10, 8))
    backbone = bind(msgspec.structs.replace(lenet.spec, layers=(layer,)), module)
    file = tmp_path / "a.onnx"
    assert write_network(backbone, backbone.weights, 10, file, file_format="onnx", metadata={}).apart < 1e-5
    assert module.fused_attn


class Near(torch.nn.Module):
    """Not quite what the bank answers."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 1.01 * images


def test_what_a_network_makes_of_rounding_is_no_other_network() -> None:
    """Some enlarge it a thousandfold (RepGhost); then logits are held to those in float64, as near as the bank's."""
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))

    def check(exact: torch.Tensor) -> float:
        return check_loaded(lambda _: Near(), Path("none"), logits, logits, lambda: exact)

    assert check(1.005 * logits.double()) == pytest.approx(0.01, rel=1e-4)
    with pytest.raises(ExportFailed, match=r"1\.00% of the largest apart, by rounding 0\.00% of it"):
        check(logits.double())
    with pytest.raises(ExportFailed, match="does not answer as the bank does"):
        check(torch.full((3, 10), torch.nan))


@pytest.mark.parametrize("file_format", ["safetensors", "onnx"])
def test_no_file_is_left_that_answers_otherwise_than_the_bank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: Literal["safetensors", "onnx"]
) -> None:
    make(tmp_path / "a.impress", "lenet-300-100")
    right = plain_network.plain_state

    def wrong(backbone: Backbone, effective: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        state = right(backbone, effective)
        first = next(iter(state))
        return {**state, first: torch.from_numpy(np.random.default_rng(0).permuted(state[first].numpy()))}

    monkeypatch.setattr(plain_network, "plain_state", wrong)
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportFailed, match=r"\d% of the largest apart, .* so no file was left") as raised:
        export_weights(tmp_path / "a.impress", "rotated-digits/15", tmp_path / "out" / "a", file_format=file_format)
    assert raised.value.exit_code == 1
    assert not list((tmp_path / "out").iterdir())


def test_no_file_is_left_that_the_printed_lines_do_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What timm builds in one release it may refuse in another."""
    monkeypatch.setattr(plain_network, "timm_settings", lambda *_: {"num_classes": 10, "in_chans": 3})
    with pytest.raises(ExportFailed, match=r"the exported file cannot be loaded, so none was left: .*\S"):
        plain("timm:test_resnet", 32, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_network_that_answers_nan_is_not_exported(tmp_path: Path, lenet: Backbone) -> None:
    effective = {name: weight * torch.inf for name, weight in lenet.weights.items()}
    with pytest.raises(ExportFailed, match="not finite"):
        write_network(lenet, effective, 10, tmp_path / "a", file_format="safetensors", metadata={})
    assert not list(tmp_path.iterdir())


def test_a_network_that_no_graph_can_hold_is_refused_in_words(
    tmp_path: Path, lenet: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        lenet.module, "forward", lambda images: torch.linalg.eigvals(images @ images.mT).real[:, 0, :10]
    )
    with pytest.raises(ExportFailed, match=r"torch cannot write lenet-300-100 as an ONNX graph: \w+: \S"):
        write_network(lenet, lenet.weights, 10, tmp_path / "a", file_format="onnx", metadata={})
    assert not list(tmp_path.iterdir())


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
        create_bank(
            bank,
            ["rotated-digits/0"],
            network=Network(backbone=backbone, image_size=64),
            masks=Masks(masks_per_task=0, random_masks=2),
        )
        add_tasks(bank, ["rotated-digits/15"], fit=TaskTraining(epochs=1))
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
    monkeypatch.setattr("impress_learn.jobs.export.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'impresslearn\[onnx\]'"):
        export_weights(bank, "rotated-digits/15", tmp_path / "a.onnx", file_format="onnx")
    assert not (tmp_path / "a.onnx").exists()
