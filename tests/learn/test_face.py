"""impress_learn as a library: its public names, and a loaded bank's transform, predictions and modules."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import pkgutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import impress_learn
from impress_format import Bank, open_bank
from impress_format.errors import BankMismatch, DataError, ExportFailed, TaskNotFound, UsageError
from impress_learn import LoadedBank, MaskTraining, TaskTraining, add_tasks, create_bank, infer, load_bank
from impress_learn.face.own_images import OwnReader
from impress_learn.face.prediction import Prediction
from impress_learn.network.probe import probe_images
from impress_learn.plan.asked import Masks, Network
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference

GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"
TASK = "rotated-digits/20"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedBank:
    path = tmp_path_factory.mktemp("face") / "a.impress"
    create_bank(path, ["rotated-digits/0", "rotated-digits/180"], fit=MaskTraining(epochs=6))
    add_tasks(path, [TASK], fit=TaskTraining(epochs=6))
    return load_bank(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Thirty test images of the stored task and of a mask's own, as PNG files."""
    folder = tmp_path_factory.mktemp("files")
    for key in (20, 180):
        images = load_task(parse_reference(f"rotated-digits/{key}"), data_dir=None).test
        for number, pixels in enumerate(images.pixels_of(slice(0, 30))):
            Image.fromarray(pixels[0].numpy()).save(folder / f"{key:03}-{number:02}.png")
    return sorted(folder.iterdir())


# Public names


def test_the_public_names_are_these() -> None:
    assert impress_learn.__all__ == [
        "Bank",
        "Discovery",
        "ImpressError",
        "LoadedBank",
        "MaskTraining",
        "Masks",
        "Network",
        "OwnData",
        "Parts",
        "Prediction",
        "Progress",
        "Reference",
        "TaskTraining",
        "Workers",
        "add_dataset",
        "add_tasks",
        "create_bank",
        "discover_tasks",
        "evaluate",
        "export_weights",
        "extend_bank",
        "group_references",
        "infer",
        "load_bank",
        "open_bank",
        "parse_reference",
        "report_bank",
        "update_task",
    ]
    assert all(getattr(impress_learn, name).__name__ == name for name in impress_learn.__all__)
    assert set(impress_learn.__all__) <= set(dir(impress_learn))
    with pytest.raises(AttributeError, match="no attribute 'close_bank'"):
        impress_learn.close_bank  # noqa: B018


def test_no_public_name_is_that_of_a_module_which_an_import_would_put_in_its_place() -> None:
    modules = {module.name for module in pkgutil.iter_modules(impress_learn.__path__)}
    assert modules >= {"running", "jobs"}
    assert modules.isdisjoint(impress_learn.__all__)


SIGNATURES = {
    "add_dataset": "(path, name, dataset, *, fit=, parts=, warm_start=, device=, progress=)",
    "add_tasks": "(path, references, *, fit=, name=, parts=, warm_start=, device=, data_dir=, progress=)",
    "create_bank": "(path, references, *, network=, masks=, fit=, device=, reproducible=, data_dir=, progress=)",
    "discover_tasks": "(path, references, *, discovery=, fit=, device=, data_dir=, progress=)",
    "extend_bank": "(path, references, *, masks=, fit=, device=, data_dir=, progress=)",
    "group_references": "(references, groups)",
    "load_bank": "(bank, device=)",
    "open_bank": "(path)",
    "parse_reference": "(text)",
    "update_task": "(path, task, reference, *, fit=, device=, data_dir=, progress=)",
    "evaluate": "(path, tasks=, *, basis=, wrong_mask=, holdout=, device=, data_dir=, progress=)",
    "infer": "(path, images, *, task=, one_task=, method=, mirror=, stdin=, device=, progress=)",
    "report_bank": "(path, file, *, measure=, device=, data_dir=, progress=)",
    "export_weights": "(path, task, file, *, file_format=, device=)",
    "LoadedBank.accuracy": "(self, task, dataset, classes=)",
    "LoadedBank.logits": "(self, effective, images, classes=)",
    "LoadedBank.module": "(self, task)",
    "LoadedBank.predict": "(self, images, task=)",
    "LoadedBank.task_weights": "(self, name)",
    "LoadedBank.transform": "(self, image)",
}


def shown(function: Callable[..., Any]) -> str:
    """The parameters of a function as they are called; `=` for those with a default."""
    words, starred = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        words.append(parameter.name + "=" * (parameter.default is not parameter.empty))
    return f"({', '.join(words)})"


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_these(name: str) -> None:
    function: Any = impress_learn
    for part in name.split("."):
        function = getattr(function, part)
    assert shown(function) == SIGNATURES[name]


def test_importing_the_package_imports_nothing_and_torch_comes_when_needed() -> None:
    script = (
        "import sys, json\n"
        "before = set(sys.modules)\n"
        "import impress_learn\n"
        "first = sorted(set(sys.modules) - before - {'importlib', 'typing'})\n"
        "impress_learn.TaskTraining, impress_learn.add_tasks, impress_learn.add_dataset, impress_learn.Reference\n"
        "second = 'torch' in sys.modules\n"
        "impress_learn.load_bank\n"
        "print(json.dumps([first, second, 'torch' in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:  # without site-packages there is nothing to import: with them, then
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second, third = json.loads(done.stdout)
    assert [name for name in first if name.split(".")[0] not in sys.stdlib_module_names] == ["impress_learn"]
    assert (second, third) == (False, True)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), lambda: torch.device("cpu"), None])
def test_a_device_may_be_named(loaded: LoadedBank, device: Any) -> None:
    assert load_bank(loaded.bank, device).basis.device == torch.device("cpu")
    assert load_bank(str(loaded.bank.path), device).bank == loaded.bank


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("gpu", "`device` gpu: expected auto, cpu, cuda, cuda:NUMBER or mps"),
        ("cuda", "`device` cuda: torch sees none on this machine"),
        (torch.device("mps"), "`device` mps: torch sees none on this machine"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    loaded: LoadedBank, device: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for ask in (load_bank, lambda bank, device: impress_learn.evaluate(bank.path, device=device)):
        with pytest.raises(UsageError, match=words):
            ask(loaded.bank, device)


# transform


def test_every_form_of_an_image_becomes_the_tensor_that_its_file_becomes(loaded: LoadedBank, files: list[Path]) -> None:
    expected = loaded.transform(files[0])
    assert (expected.shape, expected.dtype) == ((1, 28, 28), torch.float32)
    array = np.array(Image.open(files[0]))
    for form in (
        str(files[0]),
        Image.open(files[0]),
        array,
        array[..., None],
        np.repeat(array[..., None], 3, axis=2),
        torch.from_numpy(array),
        torch.from_numpy(array)[None],
        expected,
    ):
        assert torch.equal(loaded.transform(form), expected), type(form)


def test_it_is_what_the_bank_learned_from(loaded: LoadedBank, files: list[Path]) -> None:
    batch, _ = load_task(parse_reference(TASK), data_dir=None).test.batch(slice(0, 30))
    assert torch.equal(torch.stack([loaded.transform(file) for file in files[:30]]), batch)


def test_an_opened_image_is_left_as_it_is_and_scaled_as_its_file(loaded: LoadedBank, tmp_path: Path) -> None:
    large = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 4), dtype=np.uint8))
    large.save(tmp_path / "large.png")
    with Image.open(tmp_path / "large.png") as opened:
        before = opened.mode, opened.size, opened.tobytes()
        assert torch.equal(loaded.transform(opened), loaded.transform(tmp_path / "large.png"))
        assert (opened.mode, opened.size, opened.tobytes()) == before


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_an_opened_image_is_turned_as_its_file_is(loaded: LoadedBank, tmp_path: Path, suffix: str) -> None:
    turned = Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / f"turned.{suffix}", exif=exif)
    expected = loaded.transform(tmp_path / f"turned.{suffix}")
    assert not torch.allclose(expected, loaded.transform(turned), atol=1)
    assert torch.allclose(expected, loaded.transform(turned).rot90(-1, (1, 2)), atol=1)  # a JPEG loses a little
    assert torch.equal(loaded.transform(Image.open(tmp_path / f"turned.{suffix}")), expected)


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_more_than_8_bits_are_read_as_from_the_file_and_told_about(
    loaded: LoadedBank, tmp_path: Path, mode: str
) -> None:
    values = np.arange(28 * 28).reshape(28, 28)
    deep = Image.fromarray((values * 80).astype(np.uint16) if mode == "I;16" else (values / 784).astype(np.float32))
    deep.save(tmp_path / "deep.tif")
    with pytest.warns(UserWarning, match="1 image of more than 8 bits"):
        expected = loaded.transform(tmp_path / "deep.tif")
    for form in (deep, Image.open(tmp_path / "deep.tif")):
        with pytest.warns(UserWarning, match="1 image of more than 8 bits"):
            assert torch.equal(loaded.transform(form), expected)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (3, "an image is an int: expected a path, a Pillow image, a uint8 array"),
        (b"bytes", "an image is a bytes: expected a path"),
        ("no-such-file.png", "no-such-file.png: there is no such file"),
        (np.zeros((28, 28)), "an array of float64: expected uint8"),
        (np.zeros((3, 28, 28), np.uint8), r"expected \(H, W\) or \(H, W, C\) of 1, 3 or 4 channels, not \(C, H, W\)"),
        (np.zeros((0, 28), np.uint8), r"an array \(0, 28\): expected"),
        (np.zeros(28, np.uint8), r"an array \(28,\): expected"),
        (torch.zeros(28, 28, 3, dtype=torch.uint8), r"expected \(C, H, W\) of 1, 3 or 4 channels, not \(H, W, C\)"),
        (torch.zeros(1, 28, 28, dtype=torch.int64), "a tensor of torch.int64: expected uint8 pixels, or normalised"),
        (torch.zeros(3, 28, 28), r"a float tensor \(3, 28, 28\) is taken as normalised and has to be \(1, 28, 28\)"),
        (torch.full((1, 28, 28), torch.nan), "no finite number"),
    ],
)
def test_anything_else_is_refused(loaded: LoadedBank, image: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        loaded.transform(image)
    with pytest.raises(DataError, match=words):
        loaded.predict(image, TASK)


def test_a_tensor_that_looks_otherwise_than_normalised_is_told_about(loaded: LoadedBank, files: list[Path]) -> None:
    pixels = torch.from_numpy(np.array(Image.open(files[0])))[None]
    for image in (pixels / 255, pixels.float()):
        with pytest.warns(UserWarning, match="float images are taken as normalised, .* look otherwise"):
            loaded.predict(image, TASK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.predict(loaded.transform(files[0]), TASK)


def test_a_bank_that_does_not_say_what_images_are_like_is_refused(files: list[Path]) -> None:
    old = load_bank(GOLDEN_V1)
    for ask in (old.transform, old.predict):
        with pytest.raises(BankMismatch, match=r"format version 1, .* run `impress bank upgrade`"):
            ask(files[0])


# predict


def as_answered(predictions: list[Prediction]) -> list[tuple[object, ...]]:
    return [(one.task, one.nearest, one.label, one.task_probability, one.probability) for one in predictions]


@pytest.mark.parametrize("task", [TASK, None])
def test_predictions_are_the_answers_of_the_command(
    loaded: LoadedBank,
    files: list[Path],
    task: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from impress_cli.app import main

    given = [] if task is None else ["--task", task]
    monkeypatch.setattr(sys, "argv", ["impress", "infer", str(loaded.bank.path), *map(str, files), *given, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    told = json.loads(capsys.readouterr().out)["images"]
    predictions = loaded.predict(files, task)
    for (*words, sure, likely), one in zip(as_answered(predictions), told, strict=True):
        assert words == [one["task"], one["nearest"], one["label"]]
        assert sure == pytest.approx(one["task_probability"], abs=1e-3)  # the command answers in NumPy
        assert likely == pytest.approx(one["probability"], abs=1e-5)
    assert (len({one.task for one in predictions}) > 1) is (task is None)
    assert [str(one.index) for one in predictions] == [one.label for one in predictions]
    right = [one.index for one in predictions[:30]] if task else []
    labels = load_task(parse_reference(TASK), data_dir=None).test.labels[:30].tolist()
    assert task is None or sum(map(int.__eq__, right, labels)) > 15


def test_one_image_gives_one_prediction_and_many_a_list(loaded: LoadedBank, files: list[Path]) -> None:
    one = loaded.predict(files[0], TASK)
    assert isinstance(one, Prediction)
    assert one.label == loaded.predict([files[0]], "rotated-digits-20")[0].label
    arrays = np.stack([np.array(Image.open(file)) for file in files[:3]])
    batch = torch.stack([loaded.transform(file) for file in files[:3]])
    expected = as_answered(loaded.predict(files[:3], TASK))
    for many in (batch, arrays[..., None], torch.from_numpy(arrays)[:, None], tuple(map(Image.open, files[:3]))):
        assert as_answered(loaded.predict(many, TASK)) == expected
    assert loaded.predict([], TASK) == []
    assert as_answered(loaded.predict(map(str, files[:3]), TASK)) == expected


def test_many_images_are_read_and_answered_part_by_part(
    loaded: LoadedBank, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [(one.task, one.label) for one in loaded.predict(files)]
    read: list[int] = []

    def counted(reader: OwnReader, images: Any, *, first: int | None = None) -> Tensor:
        read.append(len(images))
        return own_read(reader, images, first=first)

    own_read = OwnReader.read
    monkeypatch.setattr(OwnReader, "read", counted)
    monkeypatch.setattr(importlib.import_module("impress_learn.streams.read_parts"), "LEAST_PART", 25)
    monkeypatch.setattr(importlib.import_module("impress_learn.streams.read_parts"), "_PART_BYTES", 0)
    assert [(one.task, one.label) for one in loaded.predict(files)] == expected
    assert read == [25, 25, 10]
    with pytest.raises(DataError, match="image 30: an image is a NoneType"):
        loaded.predict([*map(Image.open, files[:30]), None], TASK)  # type: ignore[list-item]


def test_warnings_point_to_whoever_asked(loaded: LoadedBank, files: list[Path]) -> None:
    deep = Image.fromarray((np.eye(28) * 60000).astype(np.uint16))
    for ask in (
        lambda: loaded.transform(deep),
        lambda: loaded.predict(deep, TASK),
        lambda: loaded.accuracy(TASK, [(deep, 1)]),
    ):
        with pytest.warns(UserWarning, match="more than 8 bits") as told:
            ask()
        assert [Path(one.filename).name for one in told] == ["test_face.py"]


def test_what_cannot_be_answered_says_so(loaded: LoadedBank, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(TaskNotFound, match="rotated-digits/21"):
        loaded.predict(files[0], "rotated-digits/21")
    with pytest.raises(DataError, match="image 1: an image is a NoneType"):
        loaded.predict([np.zeros((28, 28), np.uint8), None], TASK)  # type: ignore[list-item]
    (tmp_path / "none.png").write_text("no image")
    with pytest.raises(DataError, match=r"^\S*none.png: no image that can be read"):
        loaded.predict([files[0], tmp_path / "none.png"], TASK)


def test_a_bank_with_one_task_answers_under_it_and_says_so(bank_for_heads: Bank, files: list[Path]) -> None:
    add_tasks(bank_for_heads.path, ["rotated-digits/20"], fit=TaskTraining(epochs=1))
    with pytest.warns(UserWarning, match="has one task, rotated-digits-20: every image is answered as one of it"):
        (found,) = load_bank(bank_for_heads).predict(files[:1])
    assert (found.task, found.task_probability) == (TASK, None)
    assert found.label == infer(bank_for_heads.path, files[:1]).answers[0].label


# module


def test_a_module_answers_as_the_bank_does(loaded: LoadedBank, files: list[Path]) -> None:
    net = loaded.module(TASK)
    assert isinstance(net, nn.Module)
    assert not any(part.training for part in net.modules())
    assert net.classes == tuple("0123456789")
    images = torch.stack([loaded.transform(file) for file in files])
    expected = loaded.logits(loaded.task_weights("rotated-digits-20"), images)
    assert torch.allclose(net(images), expected, atol=1e-5)
    assert [net.classes[index] for index in net(images).argmax(1)] == [one.label for one in loaded.predict(files, TASK)]


def test_its_state_goes_to_a_file_and_into_another(loaded: LoadedBank) -> None:
    net, other, kept = loaded.module(TASK), loaded.module(TASK), io.BytesIO()
    torch.save(net.state_dict(), kept)
    kept.seek(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(kept, weights_only=True))
    images = probe_images(loaded.bank.backbone)
    assert torch.equal(net(images), other(images))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_it_scripts_exports_and_trains_without_touching_the_bank(loaded: LoadedBank) -> None:
    net, images = loaded.module(TASK), probe_images(loaded.bank.backbone)
    expected = net(images)
    assert torch.allclose(torch.jit.script(net)(images), expected)
    assert torch.allclose(torch.export.export(net, (images,)).module()(images), expected)
    assert net.to(torch.float64)(images.double()).dtype == torch.float64
    net = net.float().train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    nn.functional.cross_entropy(net(images), torch.zeros(len(images), dtype=torch.int64)).backward()
    optimiser.step()
    assert not torch.allclose(net(images), expected)
    assert torch.equal(loaded.module(TASK)(images), expected)


def test_a_module_of_a_timm_network_has_the_outputs_of_its_task(bank_for_heads: Bank, tmp_path: Path) -> None:
    folder = tmp_path / "three"
    images = load_task(parse_reference("rotated-digits/0"), data_dir=None).train
    for number, (pixels, label) in enumerate(zip(images.pixels_of(slice(0, 200)), images.labels[:200], strict=True)):
        if label < 3:
            (folder / f"class-{label}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[0].numpy()).save(folder / f"class-{label}" / f"{number}.png")
    add_tasks(bank_for_heads.path, [f"folder:{folder}"], name="three", fit=TaskTraining(epochs=1))
    loaded = load_bank(bank_for_heads)
    random = torch.random.get_rng_state()
    net = loaded.module("three")
    assert torch.equal(torch.random.get_rng_state(), random)
    assert type(net).__name__ == "ResNet"
    assert net.classes == ("class-0", "class-1", "class-2")
    probes = probe_images(loaded.bank.backbone)
    assert torch.allclose(net(probes), loaded.logits(loaded.task_weights("three"), probes, 3), rtol=1e-3, atol=1e-4)


def test_a_module_has_the_norm_statistics_of_its_task(tmp_path: Path) -> None:
    create_bank(
        tmp_path / "a.impress",
        ["rotated-digits/0"],
        network=Network(backbone="timm:test_resnet", image_size=32),
        masks=Masks(masks_per_task=0, random_masks=2),
    )
    add_tasks(tmp_path / "a.impress", ["rotated-digits/0"], fit=TaskTraining(epochs=1, shots=2))
    loaded = load_bank(tmp_path / "a.impress")
    net = loaded.module("rotated-digits/0")
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    assert all(norm.running_var is not None and not torch.allclose(norm.running_var, torch.ones(1)) for norm in norms)
    probes = probe_images(loaded.bank.backbone)
    expected = loaded.logits(loaded.task_weights("rotated-digits-0"), probes)
    assert torch.allclose(net(probes), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_a_module_that_would_answer_otherwise_is_not_given(loaded: LoadedBank, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> dict[str, Tensor]:
        state: dict[str, Tensor] = loaded.backbone.module.state_dict()
        return state

    monkeypatch.setattr(importlib.import_module("impress_learn.face.module"), "plain_state", wrong)
    with pytest.raises(ExportFailed, match=r"% of the largest apart, .* so there is none"):
        loaded.module(TASK)


def test_a_task_that_is_added_later_is_found(loaded: LoadedBank, files: list[Path]) -> None:
    add_tasks(loaded.bank.path, ["rotated-digits/180"], name="later", fit=TaskTraining(epochs=1))
    try:
        assert loaded.module("later").classes == tuple("0123456789")
    finally:
        open_bank(loaded.bank.path).remove_task("later")
