"""Networks that stand on weights others trained: what is taken of them, how a bank finds them, what is refused."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from impress_format import open_bank, verify_bank
from impress_format.errors import BackboneMismatch, DataError, StorageError, UsageError
from impress_learn import load_bank
from impress_learn.jobs import add_tasks, create_bank, evaluate
from impress_learn.jobs.convert_weights import convert_weights
from impress_learn.jobs.export import export_weights
from impress_learn.network.build import build_backbone
from impress_learn.network.pretrained import add_weights, load_weights
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.training.config import MaskTraining, TaskTraining

ARCH = "timm:test_resnet"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are kept."""
    monkeypatch.setenv("IMPRESS_WEIGHTS", str(tmp_path / "kept"))
    return tmp_path / "kept"


def trained(name: str = "test_resnet", seed: int = 0) -> nn.Module:
    """A stand-in for what others trained: every tensor, BatchNorm's statistics too, has values of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(name, pretrained=False)
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(torch.randn_like(tensor) * 0.1)
    return model.eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_file(trained().state_dict(), path, metadata={"mean": "0.5,0.5,0.5", "std": "0.25,0.5,1", "license": "mit"})
    return path


NETWORK = Network(backbone=ARCH, image_size=32)


def make(path: Path, weights: Path | str, network: Network = NETWORK) -> Path:
    network, masks = replace(network, weights=str(weights)), Masks(random_masks=1, density=0.5)
    create_bank(path, ["rotated-digits/0"], network=network, masks=masks, fit=MaskTraining(epochs=1))
    return path


def test_all_but_the_classifier_is_theirs(file: Path) -> None:
    weights = load_weights(str(file), ARCH)
    backbone = build_backbone(ARCH, init="signed-constant", seed=3, input_shape=(3, 32, 32), classes=7, weights=weights)
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = trained()
    with torch.no_grad():
        features = model.forward_head(model.forward_features(images), pre_logits=True)  # type: ignore[operator]
        expected = features @ dict(backbone.module.named_parameters())["fc.weight"].T
        found = backbone(backbone.weights, images)
        alone = backbone(backbone.weights, images[:1])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone, found[:1], rtol=1e-4, atol=1e-5)  # their statistics, not those of the batch
    assert backbone.weights["fc.weight"].shape[0] == 7


def test_a_bank_names_the_weights_and_says_how_its_images_are_made(tmp_path: Path, file: Path) -> None:
    bank = open_bank(make(tmp_path / "a.impress", file))
    spec, view = bank.backbone, bank.manifest.preprocess
    assert spec.pretrained is not None
    assert (spec.pretrained.source, spec.pretrained.licence) == ("file:small.safetensors", "mit")
    assert set(spec.pretrained.tensors) == set(trained().state_dict())
    assert view is not None
    assert (view.mode, view.size, view.mean, view.std) == ("RGB", (32, 32), (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    assert not bank.manifest.calibration
    assert sum(one.stat().st_size for one in bank.path.rglob("*") if one.is_file()) < file.stat().st_size
    assert verify_bank(bank.path).ok


def test_tasks_are_learned_measured_and_exported_over_them(tmp_path: Path, file: Path) -> None:
    path = make(tmp_path / "a.impress", file)
    (added,) = add_tasks(path, ["rotated-digits/15"], parts=Parts(alpha=True, residual=800), fit=TaskTraining(epochs=2))
    (measured,) = evaluate(path)
    assert measured.accuracy == pytest.approx(added.accuracy, abs=1e-4)
    export_weights(path, "rotated-digits/15", tmp_path / "out.safetensors")
    model = timm.create_model("test_resnet", num_classes=10).eval()
    from safetensors.torch import load_file

    model.load_state_dict(load_file(tmp_path / "out.safetensors"))
    loaded = load_bank(open_bank(path), CPU)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            model(images), loaded.logits(loaded.task_weights("rotated-digits-15"), images), rtol=1e-4, atol=1e-4
        )


def test_weights_that_are_gone_are_named_and_can_be_given_again(tmp_path: Path, file: Path, kept: Path) -> None:
    bank = open_bank(make(tmp_path / "a.impress", file))
    (copy,) = kept.iterdir()
    copy.unlink()
    with pytest.raises(DataError, match=r"file:small\.safetensors \(\d+ tensors, mit, id [0-9a-f]{16}\)") as error:
        load_bank(bank, CPU)
    assert "impress weights add FILE" in str(error.value)
    renamed = file.rename(tmp_path / "other-name.safetensors")
    again, identity = add_weights(renamed)
    assert again == copy
    assert bank.backbone.pretrained is not None
    assert identity == bank.backbone.pretrained.identity
    load_bank(bank, CPU)


def test_other_weights_in_their_place_are_refused(tmp_path: Path, file: Path, kept: Path) -> None:
    bank = open_bank(make(tmp_path / "a.impress", file))
    (copy,) = kept.iterdir()
    save_file(trained(seed=1).state_dict(), copy)
    with pytest.raises(BackboneMismatch, match="is not that of the bank"):
        load_bank(bank, CPU)


def test_a_bank_resumes_over_its_weights_and_not_over_others(tmp_path: Path, file: Path) -> None:
    path = make(tmp_path / "a.impress", file)
    make(path, file)
    other = tmp_path / "other.safetensors"
    save_file(trained(seed=1).state_dict(), other)
    with pytest.raises(UsageError, match="exists with other settings"):
        make(path, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("conv1.0.weight" if "conv1.0.weight" in state else next(iter(state))), "is missing"),
        (lambda state: state.update({next(iter(state)): torch.zeros(1)}), r"has shape \(1,\)"),
        (lambda state: state.update({"more.weight": torch.zeros(1)}), "more.weight does not belong there"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, change, words: str) -> None:  # type: ignore[no-untyped-def]
    state = trained().state_dict()
    change(state)
    save_file(state, tmp_path / "b.safetensors")
    with pytest.raises(UsageError, match=words):
        make(tmp_path / "a.impress", tmp_path / "b.safetensors")
    assert not (tmp_path / "a.impress").exists()


def test_what_cannot_be_weights_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file of weights"):
        make(tmp_path / "a.impress", tmp_path / "none.safetensors")
    pickled = tmp_path / "a.pth"
    torch.save(trained().state_dict(), pickled)
    with pytest.raises(UsageError, match="impress weights convert"):
        make(tmp_path / "a.impress", pickled)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="no safetensors file"):
        make(tmp_path / "a.impress", broken)
    state = trained().state_dict()
    next(iter(state.values())).fill_(float("nan"))
    save_file(state, broken)
    with pytest.raises(DataError, match="NaN or infinite"):
        make(tmp_path / "a.impress", broken)
    with pytest.raises(UsageError, match="take RGB"):
        make(tmp_path / "a.impress", file, replace(NETWORK, image_mode="L"))
    with pytest.raises(UsageError, match="use timm:NAME"):
        create_bank(tmp_path / "b.impress", ["rotated-digits/0"], network=Network(weights=str(file)))


def test_an_odd_file_name_is_kept_fit_to_print(tmp_path: Path, file: Path) -> None:
    odd = file.rename(tmp_path / "a\x1b[2J:b.safetensors")
    bank = open_bank(make(tmp_path / "a.impress", odd))
    assert bank.backbone.pretrained is not None
    assert bank.backbone.pretrained.source == "file:a__2J_b.safetensors"


def test_a_tag_that_timm_does_not_have_is_answered_by_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no weights 'test_resnet.none'; it has test_resnet\.\w+"):
        make(tmp_path / "a.impress", "timm:none")


def test_offline_the_hub_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for source in ("timm:r160_in1k", "hf-hub:nobody/nothing"):
        with pytest.raises(DataError, match="could not be downloaded"):
            make(tmp_path / "a.impress", source)


def test_a_checkpoint_is_converted_without_running_it(tmp_path: Path) -> None:
    state = {f"their.{name}": tensor for name, tensor in trained().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pth")
    written = convert_weights(
        tmp_path / "a.pth", tmp_path / "a.safetensors", like=ARCH, mean=(0.5, 0.5, 0.5), licence="apache-2.0"
    )
    weights = load_weights(str(tmp_path / "a.safetensors"), ARCH)
    assert written.identity == weights.record().identity
    assert (weights.mean, weights.licence, written.tensors) == ((0.5, 0.5, 0.5), "apache-2.0", len(state))
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in trained().state_dict().items())
    with pytest.raises(StorageError, match="there already"):
        convert_weights(tmp_path / "a.pth", tmp_path / "a.safetensors")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("owned",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_with_code_in_it_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.pth").write_bytes(pickle.dumps({"a": Evil()}))
    torch.save({"a": Evil()}, "torch.pth")
    for name in ("evil.pth", "torch.pth"):
        with pytest.raises(DataError, match="without running what is in it"):
            convert_weights(Path(name), tmp_path / "out.safetensors")
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("content", "like", "words"),
    [
        ({"a": torch.zeros(1)}, ARCH, "the file 1"),
        ({"a": torch.zeros(1)}, "test_resnet", "expected timm:NAME"),
        ({"a": 3}, None, "a is a int, expected tensors alone"),
        ([torch.zeros(1)], None, "holds a list"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path, content: object, like: str | None, words: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises((UsageError, DataError), match=words):
        convert_weights(tmp_path / "a.pth", tmp_path / "out.safetensors", like=like)
    assert not (tmp_path / "out.safetensors").exists()


def test_the_identity_is_that_of_tensors_not_of_files(tmp_path: Path, file: Path) -> None:
    state = dict(reversed(trained().state_dict().items()))
    save_file(state, tmp_path / "b.safetensors")
    one, other = (load_weights(str(path), ARCH).record() for path in (file, tmp_path / "b.safetensors"))
    assert one.identity == other.identity
    assert np.unique([*one.tensors.values()]).size > 10
