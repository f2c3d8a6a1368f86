"""A person's own images: read, converted as the bank says, and answered as the bank's own test images are."""

from __future__ import annotations

import io
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from impress_format import Bank, open_bank
from impress_format.errors import BankMismatch, DataError, TaskNotFound, UsageError
from impress_format.records.manifest import Preprocess
from impress_learn import load_bank
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.jobs.infer import begin_inference, infer
from impress_learn.plan.asked import Masks
from impress_learn.streams import read_parts as picture_parts
from impress_learn.streams.load import load_task
from impress_learn.streams.read_image import Notice, Pixels, decode_image
from impress_learn.streams.reference import parse_reference
from impress_learn.training.config import MaskTraining, TaskTraining

GREY = Preprocess(mode="L", size=(4, 6), interpolation="bilinear", mean=(0.0,), std=(1.0,))
COLOUR = Preprocess(mode="RGB", size=(4, 6), interpolation="nearest", mean=(0.0,) * 3, std=(1.0,) * 3)
GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"
README = Path(__file__).parents[2] / "docs" / "python.md"
PIXELS = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    path = tmp_path_factory.mktemp("infer") / "a.impress"
    create_bank(path, ["rotated-digits/0", "rotated-digits/180"], fit=MaskTraining(epochs=12))
    add_tasks(path, ["rotated-digits/20"], fit=TaskTraining(epochs=10))
    return open_bank(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty test images of two tasks as PNG files, in a folder each."""
    folder = tmp_path_factory.mktemp("pictures")
    for key in (20, 180):
        images = load_task(parse_reference(f"rotated-digits/{key}"), data_dir=None).test
        (folder / str(key)).mkdir()
        for number, pixels in enumerate(images.pixels_of(slice(0, 40))):
            Image.fromarray(pixels[0].numpy()).save(folder / str(key) / f"{number:02}.png")
    return folder


def own_labels(bank: Bank, key: int) -> list[str]:
    """What the bank answers to the test images themselves, under the weights of their task."""
    loaded = load_bank(bank, torch.device("cpu"))
    batch, _ = load_task(parse_reference(f"rotated-digits/{key}"), data_dir=None).test.batch(slice(0, 40))
    weights = loaded.task_weights("rotated-digits-20") if key == 20 else loaded.mask_weights(1)
    return [str(label) for label in loaded.logits(weights, batch).argmax(1).tolist()]


def test_with_the_task_given_answers_are_those_of_the_banks_own_images(bank: Bank, pictures: Path) -> None:
    found = infer(bank.path, [pictures / "20"], task="rotated-digits/20")
    assert [answer.label for answer in found.answers] == own_labels(bank, 20)
    assert [Path(answer.path).name for answer in found.answers] == [f"{number:02}.png" for number in range(40)]
    assert {answer.task for answer in found.answers} == {"rotated-digits/20"}
    assert all(0.1 < answer.probability <= 1 for answer in found.answers)
    assert found.unreadable == ()


def test_the_one_task_of_many_images_is_inferred_from_all_of_them(bank: Bank, pictures: Path) -> None:
    found = infer(bank.path, [pictures / "180"], one_task=True)
    assert {answer.task for answer in found.answers} == {"rotated-digits/180"}
    assert [answer.label for answer in found.answers] == own_labels(bank, 180)


def test_else_each_image_is_of_a_task_of_its_own(bank: Bank, pictures: Path) -> None:
    tasks = [answer.task for answer in infer(bank.path, [pictures]).answers]
    assert len(tasks) == 80
    assert len(set(tasks)) > 1
    alone = infer(bank.path, [pictures / "180" / "03.png"]).answers
    assert alone[0].task == tasks[0 * 40 + 3]  # folders in order of their names: 180 before 20
    assert tasks[:40].count("rotated-digits/180") > 20


def test_the_lines_of_the_python_page_run(bank: Bank, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(from impress_learn import infer\n.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(list(filter(None, code.splitlines()))) == 3
    code = code.replace("rotated-digits/15", "rotated-digits/20")
    shutil.copy(pictures / "20" / "00.png", bank.path.parent / "seven.png")
    shutil.copytree(bank.path, bank.path.parent / "build" / "demo.impress", dirs_exist_ok=True)
    monkeypatch.chdir(bank.path.parent)
    exec(compile(code, "python.md", "exec"), {})


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Parts of ten images; the images that were decoded so far."""
    decoded: list[Path] = []

    def counted(source: Path, preprocess: Preprocess, notice: Callable[[Notice], None]) -> Pixels:
        decoded.append(source)
        return decode_image(source, preprocess, notice)

    monkeypatch.setattr(picture_parts, "LEAST_PART", 10)
    monkeypatch.setattr(picture_parts, "_PART_BYTES", 0)
    monkeypatch.setattr(picture_parts, "decode_image", counted)
    return decoded


def test_answers_come_before_the_next_images_are_decoded(
    bank: Bank, pictures: Path, few_at_once: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "none.png").write_text("no image")
    activations = begin_inference(bank.path, [pictures / "20", tmp_path / "none.png"], task="rotated-digits/20")
    assert activations.images == 41
    assert few_at_once == []
    for number, part in enumerate(activations.parts, start=1):
        assert len(few_at_once) == min(10 * number, 41)
        assert (len(part.answers), len(part.unreadable)) == ((10, 0) if number < 5 else (0, 1))
    assert number == 5


@pytest.mark.parametrize("method", ["signature", "one-shot", "exhaustive", "binary", "gradient"])
@pytest.mark.parametrize("one_task", [True, False])
def test_in_parts_or_not_the_answers_are_the_same(
    bank: Bank, pictures: Path, few_at_once: list[Path], monkeypatch: pytest.MonkeyPatch, method: Any, *, one_task: bool
) -> None:
    images = [pictures / "180" / f"{number:02}.png" for number in range(24)]
    found = infer(bank.path, images, one_task=one_task, method=method)
    assert len(few_at_once) == (48 if one_task else 24)
    monkeypatch.setattr(picture_parts, "LEAST_PART", 24)
    whole = infer(bank.path, images, one_task=one_task, method=method)
    assert len(few_at_once) == (72 if one_task else 48)  # one part is decoded once
    assert [(one.path, one.task, one.nearest, one.label) for one in found.answers] == [
        (one.path, one.task, one.nearest, one.label) for one in whole.answers
    ]
    for one, other in zip(found.answers, whole.answers, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
        assert one.task_probability == pytest.approx(other.task_probability, abs=1e-5)


def test_what_can_be_read_only_once_is_read_once(
    bank: Bank, pictures: Path, few_at_once: list[Path], tmp_path: Path
) -> None:
    """Standard input and a pipe, among images that are decoded twice."""
    content = (pictures / "180" / "05.png").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    writer.start()
    given = iter([content])
    found = infer(bank.path, ["-", pipe, pictures / "180"], one_task=True, stdin=lambda: next(given))
    writer.join()
    assert found.unreadable == ()
    assert len(few_at_once) == 84
    labels = [answer.label for answer in found.answers]
    assert labels[0] == labels[1] == labels[2 + 5]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "pgm", "gif"])
def test_lossless_formats_give_the_pixels_themselves(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(PIXELS).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(decode_image(tmp_path / f"a.{suffix}", GREY)[0], PIXELS)


def test_what_an_image_may_be_besides_grey(tmp_path: Path) -> None:
    rgb = np.stack([PIXELS, PIXELS // 2, 255 - PIXELS], axis=-1)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    assert np.array_equal(decode_image(tmp_path / "rgb.png", COLOUR), rgb.transpose(2, 0, 1))
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode_image(tmp_path / "rgb.png", GREY)[0] - luma).max() <= 1
    Image.fromarray(PIXELS.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert np.array_equal(decode_image(tmp_path / "deep.png", GREY)[0], PIXELS)
    clear = np.dstack([rgb, np.where(PIXELS > 100, 255, 0).astype(np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    seen = decode_image(tmp_path / "clear.png", COLOUR)
    assert np.array_equal(seen, np.where(PIXELS > 100, rgb.transpose(2, 0, 1), 0))


def test_a_photo_is_turned_upright_and_resized(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    Image.fromarray(np.rot90(PIXELS)).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(decode_image(tmp_path / "turned.png", GREY)[0], PIXELS)
    large = np.kron(PIXELS, np.ones((5, 5), np.uint8))
    buffer = io.BytesIO()
    Image.fromarray(large).save(buffer, "PNG")
    assert np.array_equal(decode_image(buffer.getvalue(), COLOUR)[0], PIXELS)


def test_unreadable_images_are_named_and_the_others_answered(bank: Bank, pictures: Path, tmp_path: Path) -> None:
    good = pictures / "20" / "00.png"
    bad = tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:60])
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20_000, 10_000)).save(bomb)
    missing = tmp_path / "missing.png"
    found = infer(bank.path, [bad, good, bomb, missing], task="rotated-digits-20")
    assert [answer.path for answer in found.answers] == [str(good)]
    assert [message.partition(":")[0] for message in found.unreadable] == [str(bad), str(bomb), str(missing)]
    assert infer(bank.path, [bad]).answers == ()


def test_one_image_may_come_on_standard_input(bank: Bank, pictures: Path) -> None:
    content = (pictures / "20" / "05.png").read_bytes()
    (answer,) = infer(bank.path, ["-"], task="rotated-digits-20", stdin=lambda: content).answers
    expected = infer(bank.path, [pictures / "20" / "05.png"], task="rotated-digits-20").answers[0]
    assert answer == replace(expected, path="-")


def test_hidden_files_in_a_folder_are_no_images_of_it(bank: Bank, pictures: Path, tmp_path: Path) -> None:
    """What macOS, file managers and notebooks lay beside images; a hidden file that is named is read."""
    inside = tmp_path / ".hidden" / "photos"
    inside.mkdir(parents=True)
    good = pictures / "20" / "00.png"
    shutil.copy(good, inside / "a.png")
    (inside / "._a.png").write_bytes(b"no image")
    for folder in (".thumbs", ".ipynb_checkpoints"):
        (inside / folder).mkdir()
        shutil.copy(good, inside / folder / "a.png")
    found = infer(bank.path, [inside], task="rotated-digits/20")
    assert [answer.path for answer in found.answers] == [str(inside / "a.png")]
    assert found.unreadable == ()
    named = infer(bank.path, [inside / ".thumbs" / "a.png"], task="rotated-digits/20")
    assert len(named.answers) == 1


def test_what_does_not_fit_is_refused(bank: Bank, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image"):
        infer(bank.path, [])
    with pytest.raises(UsageError, match="one_task"):
        infer(bank.path, [pictures], task="rotated-digits-20", one_task=True)
    with pytest.raises(TaskNotFound):
        infer(bank.path, [pictures], task="rotated-digits/3")
    with pytest.raises(DataError, match="holds no image"):
        infer(bank.path, [tmp_path])
    with pytest.raises(BankMismatch, match="does not say what its images are like: run `impress bank upgrade` first"):
        infer(GOLDEN_V1, [pictures])


def test_where_there_is_one_task_the_images_are_of_it_and_a_remark_says_so(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.impress"
    create_bank(path, ["rotated-digits/20"], fit=MaskTraining(epochs=1))
    image = pictures / "20" / "00.png"
    with pytest.raises(BankMismatch, match=r"none stored, .* add another with `impress task add`"):
        infer(path, [image])
    add_tasks(path, ["rotated-digits/20"], fit=TaskTraining(epochs=1))
    found, known = infer(path, [image]), infer(path, [image], task="rotated-digits-20")
    assert (found.answers, known.remarks) == (known.answers, ())
    (remark,) = found.remarks
    assert "has one task, rotated-digits-20: every image is answered as one of it" in remark
    add_tasks(path, ["rotated-digits/20"], name="again", fit=TaskTraining(epochs=1, seed=1))
    with pytest.raises(BankMismatch, match=r"\(again, rotated-digits-20\): give the name of one"):
        infer(path, [image])


def test_one_stored_task_beside_masks_of_another_is_still_inferred(bank: Bank, pictures: Path) -> None:
    assert bank.task_names() == ["rotated-digits-20"]
    assert infer(bank.path, [pictures / "180"], one_task=True).remarks == ()
    assert infer(bank.path, [pictures / "180"], one_task=True).answers[0].task == "rotated-digits/180"


def test_a_bank_without_any_task_says_so(pictures: Path, tmp_path: Path) -> None:
    create_bank(tmp_path / "none.impress", ["rotated-digits/0"], masks=Masks(masks_per_task=0, random_masks=1))
    with pytest.raises(BankMismatch, match="has no task: add one with `impress task add`"):
        infer(tmp_path / "none.impress", [pictures])
